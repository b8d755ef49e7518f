#!/usr/bin/env bash
# Everything CI runs, in order; the first failure ends it. Usage: test.sh [check|unit|machine|attack]… (default: all)
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
cd "$REPO"
machine=
[ ! -d crates/machine ] || machine=yes

step() {
  local begin=$SECONDS
  say "$1"
  shift
  "$@"
  printf '   %s s\n' $((SECONDS - begin)) >&2
}

check() {
  step "format" cargo fmt --all --check
  step "clippy" cargo clippy --workspace --all-targets --locked ${machine:+--features machine/machine} -- -D warnings
  [ ! -e xtask/src/tidy.rs ] || step "tidy" cargo run -q --locked -p xtask -- tidy
  if command -v shellcheck >/dev/null; then step "shellcheck" shellcheck scripts/*.sh .ci/run; fi
}

unit() {
  local scope=(--workspace --locked ${machine:+--exclude machine})
  if cargo nextest --version >/dev/null 2>&1; then
    step "unit and simulation tests" cargo nextest run "${scope[@]}"
  else
    step "unit and simulation tests" cargo test -q "${scope[@]}"
  fi
  if [ -e crates/world/src/main.rs ]; then
    step "world, 10,000 seeds" cargo run -q --locked -p world -- --seeds 10000
    step "world, planted bugs are found" cargo run -q --locked -p world -- --plant all
  fi
}

# What a node leaves behind must be nothing, whatever the tests did to it.
machine_down() {
  local code=$?
  trap - EXIT
  [ "$code" = 0 ] || tail -n 30 "$HK_CONTAINERD_LOG" >&2 || true
  scripts/machine_env.sh down "$HK_DATA" || code=1
  exit "$code"
}

machine() (
  need_root "the machine tests"
  if [ -n "$machine" ] && [ -z "${HYPERKUBE_BIN:-}" ]; then
    # With the points at which the tests end it; never part of a release.
    cargo build --locked -p hyperkube --features fault-points
    export HYPERKUBE_BIN=$TARGET/debug/hyperkube
  fi
  HK_DATA=$(mktemp -d /var/tmp/hyperkube.XXXXXX)
  HK_CONTAINERD_LOG=$HK_DATA/log/containerd.log
  trap machine_down EXIT
  trap 'exit 130' INT TERM
  scripts/machine_env.sh up "$HK_DATA" >"$HK_DATA/env"
  set -a
  # shellcheck disable=SC1091 # written a line above
  . "$HK_DATA/env"
  set +a
  if [ -n "$machine" ]; then
    cargo test --locked -p machine --features machine -- --test-threads=1 --nocapture
  else
    say "no machine tests in this tree yet: only the node environment was started and removed"
  fi
)

# Of the attack suite what is judged by answers and not by time: a busy machine changes nothing about it. The floods are `make attack`.
# The suite starts and removes a private containerd of its own.
SHORT_ATTACK=auth-kubelet,auth-apiserver,auth-escalation,auth-expiry,disk-store,ends,patch-depth-256,patch-depth-16384,timeout-max
attack() (
  need_root "the attack suite"
  if [ -z "${HYPERKUBE_BIN:-}" ]; then
    # As the machine tests have it, so that it is not built twice: a fault point that nobody names does nothing.
    cargo build --locked -p hyperkube --features fault-points
    export HYPERKUBE_BIN=$TARGET/debug/hyperkube
  fi
  cargo run -q --locked -p attack -- --quick --only "$SHORT_ATTACK"
)

scripts/setup.sh
[ $# -gt 0 ] || set -- check unit machine attack
for part; do
  case $part in
    check | unit) $part ;;
    machine) step "machine tests on a private containerd" machine ;;
    attack) step "attacks, the short form" attack ;;
    *) die "unknown part $part" ;;
  esac
done
say "all passed in $SECONDS s"
