#!/usr/bin/env bash
# `make stop`: ends this node (API server and kubelet) and its containerd. The pods' processes go on; `make run` finds them again.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
node_paths "${HYPERKUBE_DATA:-$REPO/.hyperkube}"
if pid=$(kubelet_pid); then
  say "stopping the node"
  end_pid "$pid" 30
  rm -f "$KUBELET_PID"
fi
"$REPO/scripts/containerd.sh" stop "$DATA"
