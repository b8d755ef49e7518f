# shellcheck shell=bash
# Sourced by the other scripts: messages, the places of one private node, and checks on its processes.
# A node is one data directory; everything else (names of bridge, network, cgroup) follows from its path.

export PATH="$PATH:/usr/sbin:/sbin:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin" LC_ALL=C
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # read by the scripts that source this file
{
  TARGET=$(cd "$REPO" && realpath -m "${CARGO_TARGET_DIR:-target}")
  PAUSE_IMAGE=registry.k8s.io/pause:3.10.2
  BUSYBOX_IMAGE=registry.k8s.io/e2e-test-images/busybox:1.37.0-1
  WEB_IMAGE=hyperkube.local/web:1
}

say() { printf '== %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
need_root() { [ "$(id -u)" = 0 ] || die "$1 needs root (it starts a container runtime)"; }

# node_paths <data dir>: sets the places of that node; makes nothing.
# shellcheck disable=SC2034 # read by the scripts that source this file
node_paths() {
  DATA=$(realpath -m "$1")
  case $DATA in / | /run | /var | /var/lib | /tmp | /root | /etc | "$REPO") die "$DATA cannot be a data directory" ;; esac
  [[ $DATA != *[[:space:]\"\\]* ]] || die "the data directory must not contain spaces, quotes or backslashes: $DATA"
  HASH=$(printf %s "$DATA" | sha256sum | cut -c1-8)
  NETWORK=hyperkube-$HASH
  BRIDGE=hk-$HASH
  CGROUP_ROOT=/hyperkube-$HASH
  RUN=$DATA/run
  # A socket's path has 107 usable bytes; containerd adds `.ttrpc`.
  [ ${#RUN} -le 80 ] || RUN=/run/hyperkube-$HASH
  SOCKET=$RUN/containerd.sock
  STATE=$RUN/state
  CONFIG=$DATA/containerd.toml
  CONTAINERD_PID=$DATA/containerd.pid
  CONTAINERD_LOG=$DATA/log/containerd.log
  KUBELET_PID=$DATA/kubelet.pid
  KUBELET_LOG=$DATA/log/kubelet.log
  KUBELET_CONFIG=$DATA/kubelet.yaml
  KUBELET_ROOT=$DATA/kubelet
  CERT_DIR=$DATA/kubelet/pki
  ADMIN_KUBECONFIG=$DATA/apiserver/pki/admin.kubeconfig
  MANIFESTS=$DATA/manifests
  POD_LOGS=$DATA/pods
}

# our_pid <pid file> <word before> <argument>: prints the pid if that process still is the one we started, by two words of its command
# line. Its program may have any name (HYPERKUBE_BIN).
our_pid() {
  local pid
  pid=$(cat "$1" 2>/dev/null) && [[ $pid =~ ^[0-9]+$ ]] || return 1
  tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -xF -A1 -e "$2" | grep -xF -e "$3" >/dev/null || return 1
  echo "$pid"
}

# end_pid <pid> <seconds>: SIGTERM, and SIGKILL when that was not enough.
end_pid() {
  kill -TERM "$1" 2>/dev/null || return 0
  timeout "$2" tail -s 0.05 --pid="$1" -f /dev/null || { kill -KILL "$1" 2>/dev/null; tail -s 0.05 --pid="$1" -f /dev/null; }
}

kubelet_pid() { our_pid "$KUBELET_PID" --config "$KUBELET_CONFIG"; }
containerd_pid() { our_pid "$CONTAINERD_PID" --config "$CONFIG"; }

# cgroup_version: 2 when the unified hierarchy has the controllers, else 1 (pure or hybrid).
cgroup_version() { if [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo 2; else echo 1; fi; }
# cgroup_mounts <type pattern>: mount points of the hierarchies.
cgroup_mounts() { awk -v t="$1" '$3 ~ t {print $2}' /proc/mounts; }

# find_busybox: prints the path of a static busybox ($BUSYBOX, Debian's, or the one that setup.sh fetched).
find_busybox() {
  local b
  for b in "${BUSYBOX:-}" /bin/busybox "$TARGET/images/busybox"; do
    if [ -x "$b" ] && ! ldd "$b" 2>/dev/null | grep '=>' >/dev/null; then
      echo "$b"
      return
    fi
  done
  return 1
}

# write_kubelet_config alone|secured: a node reachable from this machine only. An existing file is kept.
# secured: part of `hyperkube node`, which has an API server to ask who a client is and what it may do; the kubelet section of the
# CIS benchmark holds, but for the read-only port, which is open on the loopback address (`curl …/pods` needs it).
write_kubelet_config() {
  if [ -s "$KUBELET_CONFIG" ]; then
    if [ "$1" = secured ] && grep -q 'mode: AlwaysAllow' "$KUBELET_CONFIG"; then
      say "$KUBELET_CONFIG is kept as it is: it lets every process of this machine use every port. Remove it to get one that does not"
    fi
    return 0
  fi
  {
    cat <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
staticPodPath: $MANIFESTS
podLogsDir: $POD_LOGS
containerRuntimeEndpoint: unix://$SOCKET
cgroupDriver: cgroupfs
cgroupRoot: $CGROUP_ROOT
volumePluginDir: $DATA/volume-plugins
address: 127.0.0.1
healthzBindAddress: 127.0.0.1
readOnlyPort: 10255
EOF
    if [ "$1" = secured ]; then
      cat <<EOF
makeIPTablesUtilChains: true
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
authorization:
  mode: Webhook
streamingConnectionIdleTimeout: 4h
eventRecordQPS: 50
rotateCertificates: true
serverTLSBootstrap: true
tlsMinVersion: VersionTLS12
tlsCipherSuites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
  TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
  TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]
podPidsLimit: 4096
seccompDefault: true
EOF
    else
      cat <<EOF
makeIPTablesUtilChains: false
# Standalone: there is no API server to ask who a client is, so every port listens on the loopback address only.
authentication:
  anonymous: {enabled: true}
  webhook: {enabled: false}
authorization:
  mode: AlwaysAllow
EOF
    fi
    [ "$(cgroup_version)" = 2 ] || echo 'failCgroupV1: false # this machine has cgroup v1'
    [ "$(wc -l </proc/swaps)" -le 1 ] || echo 'failSwapOn: false # this machine has swap'
  } >"$KUBELET_CONFIG"
  chmod 600 "$KUBELET_CONFIG"
}
