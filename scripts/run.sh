#!/usr/bin/env bash
# `make run`: a node with an API server of its own. Sets up what is missing, builds, starts containerd and `hyperkube node`, waits
# for the example pod, says what to try next and shows the node's log. Ctrl-C stops the node; containerd and the pods go on.
# Environment: HYPERKUBE_DATA (data directory, default .hyperkube), HYPERKUBE_BIN (a ready-made binary),
# HYPERKUBE_API_PORT (the API server's port, default 6443), NODE_FLAGS (more flags).
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
need_root "make run"
node_paths "${HYPERKUBE_DATA:-$REPO/.hyperkube}"
BIN=${HYPERKUBE_BIN:-$TARGET/quick/hyperkube}
API_PORT=${HYPERKUBE_API_PORT:-6443}

# listens <port>: somebody has this TCP port open, on any address.
listens() { awk -v p="$(printf ':%04X' "$1")" '$4 == "0A" && substr($2, length($2) - 4) == p {f = 1} END {exit !f}' /proc/net/tcp /proc/net/tcp6 2>/dev/null; }

# configured <field> <default of a new node>: a port of kubelet.yaml, which the operator may have changed.
configured() {
  local value
  [ -s "$KUBELET_CONFIG" ] || { echo "$2"; return; }
  value=$(sed -nE "s/^$1: *\"?([0-9]+).*/\1/p" "$KUBELET_CONFIG" | tail -n 1)
  echo "${value:-$3}"
}
# The third word is the kubelet's own default, for a file that does not name the port.
MAIN_PORT=$(configured port 10250 10250)
READ_ONLY_PORT=$(configured readOnlyPort 10255 0)
HEALTHZ_PORT=$(configured healthzPort 10248 10248)
HTTP=http://127.0.0.1:$READ_ONLY_PORT

if pid=$(kubelet_pid); then die "this node already runs, pid $pid; stop it with: make stop"; fi
for port in "$MAIN_PORT" "$READ_ONLY_PORT" "$HEALTHZ_PORT" "$API_PORT"; do
  if [ "$port" != 0 ] && listens "$port"; then die "port $port is in use (another kubelet or API server?): stop what listens there first (ss -ltnp | grep $port)"; fi
done

took=()
# timed <what> <command>…: runs it and notes how long it took, in tenths of a second.
timed() {
  local what=$1 begin=${EPOCHREALTIME/[.,]/} spent
  shift
  "$@"
  spent=$(((${EPOCHREALTIME/[.,]/} - begin) / 100000))
  took+=("$what $((spent / 10)).$((spent % 10)) s")
}
build() {
  say "building hyperkube (profile quick: some minutes the first time)"
  (cd "$REPO" && CARGO_TERM_PROGRESS_WHEN=always CARGO_TERM_PROGRESS_WIDTH=100 cargo build --profile quick --locked -p hyperkube)
}

timed "packages" "$REPO/scripts/setup.sh"
[ -n "${HYPERKUBE_BIN:-}" ] || timed "build" build
timed "containerd" "$REPO/scripts/containerd.sh" start "$DATA"
timed "images" "$REPO/scripts/images.sh" import "$DATA"
[ -n "$(ls -A "$MANIFESTS")" ] || cp "$REPO/examples/web.yaml" "$MANIFESTS/"
write_kubelet_config secured

say "starting the node"
started=${EPOCHREALTIME/[.,]/}
: >"$KUBELET_LOG"
# In its own session, so that a Ctrl-C reaches it once, from here.
# shellcheck disable=SC2086 # NODE_FLAGS is a list of words
setsid "$BIN" node --data-dir "$DATA" --secure-port "$API_PORT" --config "$KUBELET_CONFIG" --v=2 ${NODE_FLAGS:-} \
  >>"$KUBELET_LOG" 2>&1 </dev/null &
pid=$!
echo "$pid" >"$KUBELET_PID"
show=

# shellcheck disable=SC2317 # the traps call it
finish() {
  trap '' INT TERM HUP
  say "stopping the node"
  end_pid "$pid" 30
  rm -f "$KUBELET_PID"
  [ -z "$show" ] || kill "$show" 2>/dev/null || true
  say "stopped; the pods keep running (make run: go on, make clean-node: remove every trace)"
  exit 0
}
trap finish INT TERM HUP

gone() {
  local code=0
  wait "$pid" || code=$?
  rm -f "$KUBELET_PID"
  tail -n 20 "$KUBELET_LOG" >&2
  die "the node ended with exit code $code; its log is $KUBELET_LOG"
}

# One line per pod: name, phase, ready, address.
pods() {
  curl -fsS -m 2 "$HTTP/pods" 2>/dev/null | jq -r '(.items // [])[] | [.metadata.name, .status.phase // "Pending",
    ((.status.conditions // [])[] | select(.type == "Ready") | .status) // "False", .status.podIP // "-"] | join(" ")' 2>/dev/null
}

last=
for ((i = 0; i < 600; i++)); do
  [ -e "/proc/$pid" ] || gone
  [ "$READ_ONLY_PORT" != 0 ] || break # nobody tells without it
  now=$(pods || true)
  [ -z "$now" ] || [ "$now" = "$last" ] || { printf '%s\n' "$now" | sed 's/^/   pod, phase, ready, address: /' >&2; last=$now; }
  if [ -n "$now" ] && ! grep -qvE ' Running True | Succeeded ' <<<"$now"; then break; fi
  sleep 0.1
done
spent=$(((${EPOCHREALTIME/[.,]/} - started) / 100000))
took+=("node and pods $((spent / 10)).$((spent % 10)) s")
say "took: $(printf '%s, ' "${took[@]}" | sed 's/, $//')"
[ "$i" -lt 600 ] || say "not all pods are Ready after a minute; going on (see the log below)"

{
  printf '\nThe node is up. To try next, in another terminal:\n\n'
  [ "$HEALTHZ_PORT" = 0 ] || echo "  curl http://127.0.0.1:$HEALTHZ_PORT/healthz"
  [ "$READ_ONLY_PORT" = 0 ] || printf '  curl %s\n' "$HTTP/pods" "$HTTP/spec/"
  pods | awk '$1 ~ /^web/ && $4 != "-" {print "  curl http://" $4 ":8080/        # the pod itself"}' || true
  printf '\n  %s get --root-dir %s        # or why, describe, timeline\n' "$BIN" "$KUBELET_ROOT"
  printf '\n  export KUBECONFIG=%s\n' "$ADMIN_KUBECONFIG"
  if command -v kubectl >/dev/null; then
    echo "  kubectl get nodes,pods -A"
    echo "  kubectl run hello --image=$WEB_IMAGE"
  else
    echo "  kubectl get nodes,pods -A              # a kubectl of 1.32 or later; none is installed here"
  fi
  printf '\n  Manifests: %s (copy one of examples/*.yaml there)\n' "$MANIFESTS"
  echo "  Pod logs:  $POD_LOGS"
  printf '\nThe log of the node (%s) follows; Ctrl-C stops the node.\n\n' "$KUBELET_LOG"
} >&2
tail -n +1 -s 0.2 --pid="$pid" -f "$KUBELET_LOG" &
show=$!
wait "$show" || true
gone
