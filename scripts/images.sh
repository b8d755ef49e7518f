#!/usr/bin/env bash
# The images that pods here need, made from static programs of this machine: there may be no registry to pull from.
# Usage: images.sh build            makes target/images/{pause,busybox,web}.tar (OCI layout, equal bytes for equal input)
#        images.sh import <data dir> builds, then imports into that node's containerd what is not there yet
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
OUT=$TARGET/images

# pack <folder> <tar>: a tar whose bytes depend on names, modes and content only.
pack() { tar -C "$1" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=posix \
  --pax-option=delete=atime,delete=ctime -cf "$2" .; }

arch() { case $(uname -m) in x86_64) echo amd64 ;; aarch64) echo arm64 ;; *) uname -m ;; esac; }

# blob <layout> <file>: moves a file among the layout's blobs; prints its descriptor's digest and size.
blob() {
  local sum size
  sum=$(sha256sum <"$2" | cut -d' ' -f1)
  size=$(stat -c %s "$2")
  mv "$2" "$1/blobs/sha256/$sum"
  printf '"digest": "sha256:%s", "size": %s' "$sum" "$size"
}

# image <name:tag> <tar> <config JSON> <layer tar>…: writes an OCI layout with one image.
image() {
  local name=$1 tar=$2 config=$3 work ids='' layers='' sep='' layer
  shift 3
  work=$(mktemp -d "$OUT/tmp.XXXXXX")
  mkdir -p "$work/blobs/sha256"
  for layer; do
    ids+="$sep\"sha256:$(sha256sum <"$layer" | cut -d' ' -f1)\""
    cp "$layer" "$work/layer"
    layers+="$sep{\"mediaType\": \"application/vnd.oci.image.layer.v1.tar\", $(blob "$work" "$work/layer")}"
    sep=', '
  done
  echo "{\"architecture\": \"$(arch)\", \"os\": \"linux\", \"config\": $config, \"rootfs\": {\"type\": \"layers\", \"diff_ids\": [$ids]}}" >"$work/c"
  echo "{\"schemaVersion\": 2, \"mediaType\": \"application/vnd.oci.image.manifest.v1+json\", \"config\": {\"mediaType\":" \
    "\"application/vnd.oci.image.config.v1+json\", $(blob "$work" "$work/c")}, \"layers\": [$layers]}" >"$work/m"
  echo "{\"schemaVersion\": 2, \"manifests\": [{\"mediaType\": \"application/vnd.oci.image.manifest.v1+json\", $(blob "$work" "$work/m")," \
    "\"annotations\": {\"io.containerd.image.name\": \"$name\", \"org.opencontainers.image.ref.name\": \"${name##*:}\"}}]}" >"$work/index.json"
  echo '{"imageLayoutVersion": "1.0.0"}' >"$work/oci-layout"
  pack "$work" "$tar.new"
  mv "$tar.new" "$tar"
  rm -rf "$work"
}

build_pause() {
  local host flags='-C target-feature=+crt-static -C relocation-model=static'
  host=$(rustc -vV | sed -n 's/^host: //p')
  (cd "$REPO" && RUSTFLAGS=$flags cargo build -q --profile pause -p pause --target "$host" --locked)
  pause=$TARGET/$host/pause/pause
}

root_pause() {
  install -m 755 "$pause" "$1/pause"
}

root_busybox() {
  local applet
  mkdir -p "$1"/{bin,etc,proc,sys,dev,root,tmp,usr,var}
  chmod 1777 "$1/tmp"
  install -m 755 "$busybox" "$1/bin/busybox"
  for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$1/bin/$applet"
  done
  ln -s ../bin "$1/usr/bin"
  ln -s bin "$1/sbin"
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$1/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$1/etc/group"
}

root_web() {
  mkdir -p "$1/www"
  echo '<!doctype html><title>hyperkube</title><p>A pod started by hyperkube answers.</p>' >"$1/www/index.html"
}

build() {
  local busybox pause work path='"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]'
  mkdir -p "$OUT"
  exec 8>"$OUT/.lock"
  flock 8
  rm -rf "$OUT"/tmp.*
  build_pause
  busybox=$(find_busybox) || die "no static busybox found: run scripts/setup.sh"
  # The inputs, and this script, name what was built.
  local stamp
  stamp=$(cat "$pause" "$busybox" "$0" | sha256sum)
  if [ "$(cat "$OUT/stamp" 2>/dev/null)" != "$stamp" ]; then
    say "making the images"
    work=$(mktemp -d "$OUT/tmp.XXXXXX")
    umask 022
    for root in pause busybox web; do
      mkdir "$work/$root"
      "root_$root" "$work/$root"
      pack "$work/$root" "$work/$root.tar"
    done
    image "$PAUSE_IMAGE" "$OUT/pause.tar" '{"Entrypoint": ["/pause"], "User": "65535:65535"}' "$work/pause.tar"
    image "$BUSYBOX_IMAGE" "$OUT/busybox.tar" "{$path, \"Cmd\": [\"sh\"]}" "$work/busybox.tar"
    image "$WEB_IMAGE" "$OUT/web.tar" \
      "{$path, \"Entrypoint\": [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"], \"ExposedPorts\": {\"8080/tcp\": {}}}" \
      "$work/busybox.tar" "$work/web.tar"
    rm -rf "$work"
    echo "$stamp" >"$OUT/stamp"
  fi
  exec 8>&-
}

import() {
  local file name digest have i
  local ctr=(ctr --address "$SOCKET" -n k8s.io images)
  have=$("${ctr[@]}" ls)
  for file in pause busybox web; do
    name=$(tar -xOf "$OUT/$file.tar" ./index.json | jq -r '.manifests[0].annotations["io.containerd.image.name"]')
    digest=$(tar -xOf "$OUT/$file.tar" ./index.json | jq -r '.manifests[0].digest')
    grep -F "$name " <<<"$have" | grep -F "$digest" >/dev/null && continue
    say "importing $name"
    "${ctr[@]}" import "$OUT/$file.tar" >/dev/null
  done
  # The CRI service learns of new images by an event and then labels them.
  for ((i = 0; i < 100; i++)); do
    have=$("${ctr[@]}" ls)
    [ "$(grep -F -e "$PAUSE_IMAGE " -e "$BUSYBOX_IMAGE " -e "$WEB_IMAGE " <<<"$have" | grep -cF io.cri-containerd.image=managed)" != 3 ] || return 0
    sleep 0.05
  done
  die "the runtime did not take the images in"
}

case ${1:-} in
  build) build ;;
  import)
    node_paths "${2:?usage: images.sh import <data dir>}"
    # On a machine without a toolchain the images that were brought along are taken as they are.
    command -v cargo >/dev/null || [ ! -s "$OUT/stamp" ] || built=yes
    [ -n "${built:-}" ] || build
    import
    ;;
  *) die "usage: images.sh build | import <data dir>" ;;
esac
