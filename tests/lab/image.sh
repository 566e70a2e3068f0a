#!/bin/sh
# Makes the image demo:1, busybox and nothing else, as `docker save` would write it. Needs no Docker.
# Usage: image.sh FILE
set -eu
file=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/rootfs/bin" "$dir/rootfs/tmp"
cp /bin/busybox "$dir/rootfs/bin/"
for a in sh echo cat date sleep hostname; do ln -s busybox "$dir/rootfs/bin/$a"; done
tar -C "$dir/rootfs" --owner=0 --group=0 -cf "$dir/layer.tar" .
layer=$(sha256sum "$dir/layer.tar" | cut -d ' ' -f 1)
case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=arm ;; esac
printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$arch" "$layer" >"$dir/config"
config=$(sha256sum "$dir/config" | cut -d ' ' -f 1)
mv "$dir/config" "$dir/$config.json"
printf '[{"Config":"%s.json","RepoTags":["demo:1"],"Layers":["layer.tar"]}]' "$config" >"$dir/manifest.json"
tar -C "$dir" -cf "$file" manifest.json "$config.json" layer.tar
