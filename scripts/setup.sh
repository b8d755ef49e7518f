#!/usr/bin/env bash
# Installs what is missing on Debian: container runtime, CNI plugins, iptables, a static busybox, curl, jq, openssl,
# mkfs.ext4, a C linker.
# Quick when nothing is missing. Changes nothing that is there already.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

missing=()
want() { command -v "$1" >/dev/null || missing+=("$2"); }
want containerd containerd
want ctr containerd
want runc runc
want iptables-save iptables
want ip iproute2
want curl curl
want jq jq
want openssl openssl
want mkfs.ext4 e2fsprogs
want cc gcc
[ -x /usr/lib/cni/bridge ] || [ -x /opt/cni/bin/bridge ] || missing+=(containernetworking-plugins)
echo 'int main(void){return 0;}' | cc -static -x c - -o /dev/null 2>/dev/null || missing+=(libc6-dev)
find_busybox >/dev/null || missing+=(busybox-static)

if [ ${#missing[@]} -gt 0 ]; then
  need_root "installing ${missing[*]}"
  command -v apt-get >/dev/null || die "please install: ${missing[*]} (no apt-get here)"
  export DEBIAN_FRONTEND=noninteractive
  update() { say "updating the package lists" && apt-get update -q >&2; }
  for package in "${missing[@]}"; do
    apt-cache policy "$package" 2>/dev/null | grep 'Candidate: [^(]' >/dev/null || { update && break; }
  done
  # busybox-static would push out an installed dynamic busybox: only its program is taken then.
  if [[ " ${missing[*]} " == *" busybox-static "* ]] && [ -e /bin/busybox ]; then
    say "fetching a static busybox"
    work=$(mktemp -d)
    (cd "$work" && apt-get download -q -o APT::Sandbox::User=root busybox-static >&2 && dpkg-deb -x ./*.deb .)
    mkdir -p "$TARGET/images"
    cp "$work/bin/busybox" "$TARGET/images/busybox" 2>/dev/null || cp "$work/usr/bin/busybox" "$TARGET/images/busybox"
    rm -rf "$work"
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | grep -vx busybox-static)
  fi
  if [ ${#missing[@]} -gt 0 ]; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    say "installing ${missing[*]}"
    install() { apt-get install -q -y --no-install-recommends "${missing[@]}" >&2; }
    install || { update && install; } # old lists name packages that are gone
  fi
fi
command -v cargo >/dev/null || die "no cargo found: please install a Rust toolchain (with rustfmt and clippy)"
