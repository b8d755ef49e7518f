#!/usr/bin/env bash
# A fresh private node environment for machine tests and the benchmark.
# Usage: machine_env.sh up [data dir]    starts it and prints KEY=VALUE lines (HK_…); without a directory it makes one
#        machine_env.sh down <data dir>  removes every trace and fails if anything is left
# A containerd that a test killed comes back by: containerd.sh start "$HK_DATA".
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
case ${1:-} in
  up)
    need_root "machine_env.sh"
    node_paths "${2:-$(mktemp -d /var/tmp/hyperkube.XXXXXX)}"
    "$REPO/scripts/containerd.sh" start "$DATA"
    "$REPO/scripts/images.sh" import "$DATA"
    write_kubelet_config alone
    KUBELET_CONFIG=$DATA/kubelet-secured.yaml write_kubelet_config secured
    cat <<EOF
HK_DATA=$DATA
HK_ENDPOINT=unix://$SOCKET
HK_CONTAINERD_PID=$(containerd_pid)
HK_CONTAINERD_LOG=$CONTAINERD_LOG
HK_CGROUP_ROOT=$CGROUP_ROOT
HK_CGROUP_VERSION=$(cgroup_version)
HK_BRIDGE=$BRIDGE
HK_SUBNET=$(cat "$DATA/subnet")
HK_ROOT_DIR=$KUBELET_ROOT
HK_CERT_DIR=$CERT_DIR
HK_CONFIG=$KUBELET_CONFIG
HK_CONFIG_SECURED=$DATA/kubelet-secured.yaml
HK_MANIFESTS=$MANIFESTS
HK_POD_LOGS=$POD_LOGS
HK_PAUSE_IMAGE=$PAUSE_IMAGE
HK_BUSYBOX_IMAGE=$BUSYBOX_IMAGE
HK_WEB_IMAGE=$WEB_IMAGE
EOF
    ;;
  down) "$REPO/scripts/containerd.sh" clean "${2:?usage: machine_env.sh down <data dir>}" ;;
  *) die "usage: machine_env.sh up [data dir] | down <data dir>" ;;
esac
