#!/bin/sh
# Builds the container image as `otel-oom` (or $1) without a Docker engine: buildah, with chroot
# isolation and vfs storage, so that it also works inside a VM or a container. Needs root.
#
# The base that the Dockerfile names is made from Debian packages by mmdebstrap. Package sources
# and pip's settings are this machine's, handed in for the build.
set -eu
cd "$(dirname "$0")/../.."

tag=${1:-otel-oom}
base=debian:bookworm-slim
cache=${XDG_CACHE_HOME:-$HOME/.cache}/otel-oom
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs

mkdir -p "$cache"

make_base() {
	rootfs=$cache/base.tar
	tools/debian_root.sh "$rootfs" \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*'
	container=$(buildah from scratch)
	buildah add --quiet "$container" "$rootfs" / >/dev/null
	buildah config --cmd /bin/bash --env PATH=/usr/sbin:/usr/bin:/sbin:/bin "$container"
	buildah commit --quiet --rm "$container" "$base" >/dev/null
	rm "$rootfs"
}

# What the image is made from, as a label, so that an image that is up to date is left alone.
source_hash=$(find Dockerfile bpf otel_oom pyproject.toml README.md LICENSE -type f \
	! -path '*/__pycache__/*' ! -name '*.bpf.o' | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c1-16)
label=io.otel-oom.source=$source_hash
old=$(buildah images --quiet "$tag" 2>/dev/null || true)
if [ -n "$(buildah images --quiet --filter "label=$label" "$tag" 2>/dev/null)" ]; then
	echo "$tag is up to date"
	exit 0
fi
[ -n "$(buildah images --quiet "$base" 2>/dev/null)" ] || make_base

# pip's settings and certificates, out of the way of the packages that are installed meanwhile.
mkdir -p "$cache/pip"
{
	echo "[global]"
	env | sed -nE 's/^PIP_(INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|PROXY)=/\1 = /p'
	[ ! -f /etc/ssl/certs/ca-certificates.crt ] || {
		cp /etc/ssl/certs/ca-certificates.crt "$cache/pip/ca.crt"
		echo "cert = /root/.config/pip/ca.crt"
	}
} >"$cache/pip/pip.conf"
set -- --tag "$tag" --label "$label" --format oci --pull-never --network host \
	--volume "$cache/pip:/root/.config/pip:ro"
[ ! -f /etc/pip.conf ] || set -- "$@" --volume /etc/pip.conf:/etc/pip.conf:ro

buildah build "$@" .
[ -z "$old" ] || buildah rmi "$old" >/dev/null 2>&1 || true # some container may still use it
buildah images "$tag"
