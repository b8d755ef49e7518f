#!/usr/bin/env bash
# One private containerd per data directory: own root, state, socket, CNI configuration, bridge and subnet.
# Usage: containerd.sh start|stop|status|clean|leftovers <data dir>
#   start      writes the configuration, starts it detached, waits for its socket; nothing to do when it runs
#   stop       ends containerd; its pods keep running
#   clean      ends everything and removes every trace; leftovers lists what is still there (exit 1 if anything)
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
[ $# = 2 ] || die "usage: containerd.sh start|stop|status|clean|leftovers <data dir>"
need_root "containerd.sh $1"
node_paths "$2"

# pick_subnet: a /24 that follows from the data directory, moved on while a route of the machine covers it or lies in it.
pick_subnet() {
  local n=$((16#${HASH:0:4} % 12800)) net routes
  while :; do
    net=10.$((200 + n / 256)).$((n % 256)).0/24
    routes=$(ip -4 route show match "$net" && ip -4 route show root "$net")
    grep -qvE '^(default|$)' <<<"$routes" || break
    n=$(((n + 1) % 12800))
  done
  echo "$net"
}

write_config() {
  local cni=/usr/lib/cni snapshotter=overlayfs
  [ -x $cni/bridge ] || cni=/opt/cni/bin
  mkdir -p "$DATA"/{root,log,cni/net.d,cni/ipam,manifests,pods,kubelet} "$RUN"
  chmod 711 "$DATA"
  touch "$DATA/.hyperkube-node"
  # overlayfs cannot lie on overlayfs (a machine that is itself a container).
  [ "$(stat -f -c %T "$DATA")" != overlayfs ] || snapshotter=native
  [ -s "$DATA/subnet" ] || pick_subnet >"$DATA/subnet"
  cat >"$DATA/cni/net.d/10-hyperkube.conflist" <<EOF
{"cniVersion": "0.4.0", "name": "$NETWORK", "plugins": [
  {"type": "bridge", "bridge": "$BRIDGE", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$DATA/cni/ipam",
            "ranges": [[{"subnet": "$(cat "$DATA/subnet")"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
EOF
  cat >"$CONFIG" <<EOF
version = 2
root = "$DATA/root"
state = "$STATE"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing", "io.containerd.internal.v1.restart"]
[grpc]
  address = "$SOCKET"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$cni"
    conf_dir = "$DATA/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$snapshotter"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "$RUN/runc"
EOF
}

# make_cgroup_root: the node's own subtree in every hierarchy, so that several nodes live side by side.
make_cgroup_root() {
  local m f controllers
  if [ "$(cgroup_version)" = 2 ]; then
    mkdir -p "/sys/fs/cgroup$CGROUP_ROOT"
    for m in /sys/fs/cgroup "/sys/fs/cgroup$CGROUP_ROOT"; do
      read -ra controllers <"$m/cgroup.controllers"
      for f in "${controllers[@]}"; do echo "+$f" >"$m/cgroup.subtree_control" 2>/dev/null || true; done
    done
    return
  fi
  for m in $(cgroup_mounts '^cgroup$'); do
    mkdir -p "$m$CGROUP_ROOT"
    for f in cpuset.cpus cpuset.mems; do # a new v1 cpuset is empty and would take no process
      [ ! -e "$m$CGROUP_ROOT/$f" ] || [ -n "$(cat "$m$CGROUP_ROOT/$f")" ] || cat "$m/$f" >"$m$CGROUP_ROOT/$f"
    done
  done
}

# masquerade: what leaves the node's subnet bears the machine's address. One rule for all pods: the bridge plugin's own (ipMasq) is
# a chain per pod, nine iptables calls at its start and six at its end. Its comment is what clean.sh finds it by.
masquerade() {
  local rule=(POSTROUTING -s "$(cat "$DATA/subnet")" ! -d 224.0.0.0/4 ! -o "$BRIDGE"
    -m comment --comment "name: \"$NETWORK\"" -j MASQUERADE)
  iptables -w -t nat -C "${rule[@]}" 2>/dev/null || iptables -w -t nat -A "${rule[@]}"
}

# answers: the CRI service is up, not only the socket.
answers() { ctr --address "$SOCKET" --connect-timeout 1s plugins ls 'id==cri' 2>/dev/null | grep ' ok *$' >/dev/null; }

# serves <bytes>: the CRI service has taken over what runs, as its log says behind that many bytes. Before that it refuses every call.
serves() { tail -c "+$(($1 + 1))" "$CONTAINERD_LOG" | grep -F 'msg="Start streaming server"' >/dev/null; }

start() {
  local pid i before
  mkdir -p "$DATA"
  exec 9>"$DATA/.lock"
  flock 9
  make_cgroup_root
  [ ! -s "$DATA/subnet" ] || masquerade # a reboot has taken the rule away, or somebody who flushed the table
  if containerd_pid >/dev/null && answers; then return; fi
  write_config
  masquerade
  say "starting a private containerd in $DATA"
  before=$(stat -c %s "$CONTAINERD_LOG" 2>/dev/null || echo 0)
  setsid containerd --config "$CONFIG" >>"$CONTAINERD_LOG" 2>&1 </dev/null 9>&- &
  pid=$!
  echo "$pid" >"$CONTAINERD_PID"
  for ((i = 0; i < 300; i++)); do
    # A containerd whose log speaks otherwise has ten seconds.
    if answers && { [ "$i" -ge 100 ] || serves "$before"; }; then return; fi
    [ -e "/proc/$pid" ] || break
    sleep 0.1
  done
  tail -n 20 "$CONTAINERD_LOG" >&2
  die "containerd did not come up; its log is $CONTAINERD_LOG"
}

stop() {
  local pid
  if pid=$(containerd_pid); then end_pid "$pid" 10; fi
  rm -f "$CONTAINERD_PID"
}

case $1 in
  start) start ;;
  stop) stop ;;
  status)
    if pid=$(containerd_pid); then echo "running, pid $pid, unix://$SOCKET"; else echo "not running"; exit 1; fi
    ;;
  clean | leftovers)
    # shellcheck source=clean.sh
    . "$(dirname "$0")/clean.sh"
    "node_$1"
    ;;
  *) die "unknown command $1" ;;
esac
