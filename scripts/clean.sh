# shellcheck shell=bash disable=SC2153 # the names in capitals come from node_paths
# Sourced by containerd.sh: finds and removes every trace of one node (node_paths was called).
# Works from what the kernel says, not from containerd's own state, so it also works after a kill -9 of everything.

# shims: containerd's helper processes of this node, one per pod; they outlive containerd.
shims() {
  local file
  grep -lzxF -s -- "$SOCKET" /proc/[0-9]*/cmdline | while read -r file; do
    file=${file%/cmdline}
    [[ $(readlink "$file/exe") != */containerd-shim* ]] || echo "${file#/proc/}"
  done
}

# descendants <pid>…: children of all generations.
descendants() {
  local p c
  for p in "$@"; do
    while read -r c; do echo "$c"; descendants "$c"; done < <(cat "/proc/$p/task/"*/children 2>/dev/null | tr -s ' ' '\n')
  done
}

# node_cgroups: the node's cgroup directories, deepest first.
node_cgroups() {
  local m
  for m in $(cgroup_mounts '^cgroup'); do
    [ ! -d "$m$CGROUP_ROOT" ] || find "$m$CGROUP_ROOT" -depth -type d
  done
}

node_processes() {
  local s
  mapfile -t s < <(shims)
  {
    printf '%s\n' ${s[@]+"${s[@]}"}
    descendants ${s[@]+"${s[@]}"}
    node_cgroups | while read -r d; do cat "$d/cgroup.procs" 2>/dev/null || true; done
  } | grep -v '^0\?$' | sort -un || true
}

# node_mounts: mount points under the data and run directories, newest first.
node_mounts() {
  awk -v d="$DATA/" -v r="$RUN/" 'index($5, d) == 1 || index($5, r) == 1 {print $5}' /proc/self/mountinfo | tac
}

node_rules() { iptables-save -t nat 2>/dev/null | grep -F "name: \\\"$NETWORK\\\"" || true; }

# node_files: what the runtime and the kubelet leave outside the data directory.
node_files() {
  local link
  # CNI's cached results, the loopback's too, name the network namespace.
  grep -lF -e "$STATE/" -r /var/lib/cni/results 2>/dev/null || true
  for link in /var/log/containers/*.log; do
    [[ $(readlink "$link" 2>/dev/null) != "$POD_LOGS"/* ]] || echo "$link"
  done
}

# Prints what is left of the node, one line each; exit 1 if there is anything.
node_leftovers() {
  local left
  left=$(
    containerd_pid | sed 's/^/process /' || true
    kubelet_pid | sed 's/^/process /' || true
    node_processes | sed 's/^/process /'
    node_mounts | sed 's/^/mount /'
    node_rules | sed 's/^/iptables /'
    node_cgroups | sed 's/^/cgroup /'
    node_files | sed 's/^/file /'
    ip -o link show dev "$BRIDGE" 2>/dev/null | sed 's/^/link /' || true
    [ ! -e "$DATA" ] || echo "directory $DATA"
    [ ! -e "/run/hyperkube-$HASH" ] || echo "directory /run/hyperkube-$HASH"
  )
  [ -z "$left" ] || { printf '%s\n' "$left"; return 1; }
}

end_processes() {
  local pids
  for _ in {1..100}; do
    mapfile -t pids < <(node_processes)
    [ ${#pids[@]} -gt 0 ] || return 0
    kill -KILL "${pids[@]}" 2>/dev/null || true
    sleep 0.05
  done
  die "these processes do not end: ${pids[*]}"
}

# The chains that CNI made for this network's pods; the shared ones too once nobody uses them.
remove_rules() {
  local rules chains all c
  rules=$(node_rules)
  if [ -n "$rules" ]; then
    # Those that rules lead to, and those that rules are in: a removal that was cut off leaves the latter alone.
    chains=$(grep -oE -- '-[jA] CNI-(DN-)?[0-9a-f]+' <<<"$rules" | cut -d' ' -f2 | sort -u || true)
    {
      echo '*nat'
      printf '%s\n' "$rules" | sed 's/^-A/-D/'
      for c in $chains; do printf -- '-F %s\n-X %s\n' "$c" "$c"; done
      echo COMMIT
    } | iptables-restore --noflush
  fi
  all=$(iptables-save -t nat 2>/dev/null || true)
  if grep -q '^:CNI-HOSTPORT-DNAT' <<<"$all" && ! grep -q '^:CNI-DN-' <<<"$all"; then
    {
      echo '*nat'
      grep -E -- '-j CNI-HOSTPORT-' <<<"$all" | sed 's/^-A/-D/'
      grep -oE '^:CNI-HOSTPORT-[A-Z]+' <<<"$all" | sed 's/^:\(.*\)/-F \1\n-X \1/'
      echo COMMIT
    } | iptables-restore --noflush
  fi
}

# The kubelet's helper chains belong to whatever kubelet runs on the machine: they go with the last one.
remove_kubelet_chains() {
  local exe table tables chain all
  for exe in /proc/[0-9]*/exe; do
    exe=$(readlink "$exe" 2>/dev/null) || continue
    exe=${exe% (deleted)}
    case ${exe##*/} in hyperkube | kubelet) return 0 ;; esac
  done
  for tables in iptables ip6tables; do
    for table in mangle filter nat; do
      all=$($tables-save -t $table 2>/dev/null) || continue
      for chain in KUBE-IPTABLES-HINT KUBE-KUBELET-CANARY KUBE-FIREWALL; do
        grep -q "^:$chain " <<<"$all" || continue
        {
          echo "*$table"
          grep -E -- "^-A .* -j $chain\$" <<<"$all" | sed 's/^-A/-D/' || true
          printf -- '-F %s\n-X %s\nCOMMIT\n' "$chain" "$chain"
        } | $tables-restore --noflush
      done
    done
  done
}

node_clean() {
  local pid m d socket
  if pid=$(kubelet_pid); then end_pid "$pid" 30; fi
  if pid=$(containerd_pid); then kill -KILL "$pid"; fi # nothing of it is kept: no need for an orderly end (1.5 s)
  end_processes
  for m in "$STATE"/io.containerd.runtime.v2.task/*/*/address; do # the shims' sockets lie at a fixed place outside
    socket=$(cat "$m" 2>/dev/null) || continue
    [[ $socket != unix:///run/containerd/s/* ]] || rm -f "${socket#unix://}"
  done
  node_mounts | while read -r m; do
    m=$(printf %b "${m//\\/\\0}")
    umount "$m" 2>/dev/null || umount -l "$m" 2>/dev/null || true
  done
  for d in $(ip -o link show master "$BRIDGE" 2>/dev/null | awk -F': ' '{sub(/@.*/, "", $2); print $2}'); do
    ip link delete "$d" 2>/dev/null || true
  done
  ip link delete "$BRIDGE" 2>/dev/null || true
  remove_rules
  remove_kubelet_chains
  for _ in {1..40}; do # a cgroup stays busy for a moment after its last process
    [ -n "$(node_cgroups)" ] || break
    node_cgroups | xargs -r rmdir 2>/dev/null || sleep 0.05
  done
  node_files | xargs -r rm -f
  [ ! -e "$DATA/.hyperkube-node" ] || rm -rf --one-file-system "$DATA"
  rm -rf --one-file-system "/run/hyperkube-$HASH"
  rmdir /var/lib/cni/results /var/lib/cni 2>/dev/null || true
  # The shims made this directory; another containerd may live there.
  [ -e /run/containerd/containerd.sock ] || rmdir /run/containerd/s /run/containerd 2>/dev/null || true
  node_leftovers >&2 || die "the above is left of $DATA"
}
