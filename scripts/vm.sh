#!/usr/bin/env bash
# Machine tests in an emulated machine: Debian's kernel with cgroup v2 and CAP_SYS_RESOURCE, which the host may lack.
# Usage: vm.sh [test filter]…   (default: starts:: and two of restarts, all of which look at cgroups, files and requests)
# Emulation is slow: every limit of the tests is stretched by HYPERKUBE_PATIENCE (10), and figures of time mean nothing there.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
need_root "vm.sh"
[ $# -gt 0 ] || set -- starts:: restarts::restart_policies
VM=$TARGET/vm
PACKAGES=containerd,runc,containernetworking-plugins,iptables,iproute2,jq,curl,kmod,linux-image-cloud-amd64
MODULES="virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk"

install_tools() {
  local missing=()
  command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
  command -v debootstrap >/dev/null || missing+=(debootstrap)
  command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
  [ ${#missing[@]} = 0 ] || { say "installing ${missing[*]}" && apt-get install -q -y --no-install-recommends "${missing[@]}" >&2; }
}

# The first program of the guest's own system: mounts, the payload from the second disk, the tests, off.
guest_init() {
  cat <<'INIT'
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts && mount -t tmpfs shm /dev/shm && mount -t tmpfs run /run && mount -t tmpfs tmp /tmp
mount --make-rshared /
ln -sf /proc/self/fd /dev/fd
ip link set lo up
tar xf /dev/vdb -C /
bash /payload.sh 2>&1
echo "VM-EXIT $?"
sync
echo o >/proc/sysrq-trigger
sleep 60
INIT
}

# build_base: disk, kernel and first-stage file system; made once and kept in target/vm.
build_base() {
  local mirror work module
  work=$(mktemp -d "$VM/tmp.XXXXXX")
  # shellcheck disable=SC2016 # apt's own placeholders
  mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null | awk '$1 == "bookworm" {print $2; exit}')
  say "making the machine's system"
  debootstrap --variant=minbase --include="$PACKAGES" bookworm "$work/root" ${mirror:+"$mirror"} >"$VM/debootstrap.log" 2>&1 ||
    { tail -n 5 "$VM/debootstrap.log" >&2; die "debootstrap failed; its log is $VM/debootstrap.log"; }
  mkdir -p "$work/first"/{bin,mod,new,dev}
  cp "$(find_busybox)" "$work/first/bin/busybox"
  for module in $MODULES; do find "$work/root/lib/modules" -name "$module.ko" -exec cp {} "$work/first/mod/" \;; done
  cat >"$work/first/init" <<INIT
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for m in $MODULES; do /bin/busybox insmod /mod/\$m.ko 2>/dev/null; done
while [ ! -e /dev/vda ] || [ ! -e /dev/vdb ]; do /bin/busybox usleep 50000; done
/bin/busybox mount -t ext4 -o noatime /dev/vda /new
/bin/busybox mount --move /dev /new/dev
exec /bin/busybox switch_root /new /guest-init
INIT
  chmod +x "$work/first/init"
  (cd "$work/first" && find . | bin/busybox cpio -o -H newc 2>/dev/null >"$work/first.cpio")
  guest_init >"$work/root/guest-init"
  chmod +x "$work/root/guest-init"
  cp "$work"/root/boot/vmlinuz-* "$work/kernel"
  rm -rf "$work"/root/usr/share/{doc,man,locale} "$work"/root/var/cache/apt/archives/*.deb "$work"/root/boot/*
  mkfs.ext4 -q -F -d "$work/root" "$work/disk" 3G
  mv "$work/disk" "$work/kernel" "$work/first.cpio" "$VM/"
  rm -rf "$work"
  echo "$1" >"$VM/stamp"
}

# build_payload <filter>…: the tests, the kubelet, the scripts and images, under the same paths as here.
build_payload() {
  local work test
  work=$(mktemp -d "$VM/tmp.XXXXXX")
  cargo build --locked -p hyperkube --features fault-points
  test=$(cargo test --locked -p machine --features machine --no-run --message-format=json |
    jq -r 'select(.executable != null and .target.name == "machine") | .executable')
  "$REPO/scripts/images.sh" build
  mkdir -p "$work$REPO/crates/machine" "$work$TARGET/images" "$work/opt"
  cp -r "$REPO"/{scripts,examples,parity} "$work$REPO/"
  cp "$TARGET"/images/{*.tar,stamp} "$work$TARGET/images/"
  cp "$TARGET/debug/hyperkube" "$work/opt/hyperkube"
  cp "$test" "$work/opt/machine-tests"
  strip "$work"/opt/*
  cat >"$work/payload.sh" <<PAYLOAD
set -euo pipefail
cd "$REPO"
scripts/machine_env.sh up /var/tmp/hyperkube-vm >/tmp/env
set -a
. /tmp/env
set +a
export HYPERKUBE_BIN=/opt/hyperkube HYPERKUBE_PATIENCE=${HYPERKUBE_PATIENCE:-10}
code=0
/opt/machine-tests --test-threads=1 --nocapture $* || code=1
scripts/machine_env.sh down /var/tmp/hyperkube-vm || code=1
exit \$code
PAYLOAD
  tar -C "$work" -cf "$VM/payload.tar" .
  rm -rf "$work"
}

cd "$REPO"
"$REPO/scripts/setup.sh"
install_tools
mkdir -p "$VM"
exec 7>"$VM/.lock"
flock 7
rm -rf "$VM"/tmp.*
stamp=$(sha256sum <"$0")
[ "$(cat "$VM/stamp" 2>/dev/null)" = "$stamp" ] || build_base "$stamp"
build_payload "$@"
say "booting (emulated; about ten times slower than this machine)"
timeout 3000 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 3072 -nographic -no-reboot -nic none \
  -kernel "$VM/kernel" -initrd "$VM/first.cpio" -append "console=ttyS0 quiet panic=-1 mitigations=off" \
  -drive "file=$VM/disk,format=raw,if=virtio,snapshot=on" -drive "file=$VM/payload.tar,format=raw,if=virtio,readonly=on" \
  </dev/null 7>&- | tee "$VM/serial.log" || true
grep -q '^VM-EXIT 0' "$VM/serial.log" || die "the tests in the machine failed; see above or $VM/serial.log"
