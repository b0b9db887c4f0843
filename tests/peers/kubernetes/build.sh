#!/bin/sh
# Builds one peer of go.mod, at the versions written there, and prints the binary's path:
#
#     build.sh etcd | kube-apiserver | kubectl | kubelet
#
# The binary is kept under ${XDG_CACHE_HOME:-~/.cache}/otel-oom, keyed by the hash of go.sum, so only
# other versions build again (minutes). A lock lets two test runs share one build.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
name=$1
case $name in
etcd) package=go.etcd.io/etcd/server/v3 ;;
kube-apiserver | kubectl | kubelet) package=k8s.io/kubernetes/cmd/$name ;;
*) echo "no peer is called $name: etcd, kube-apiserver, kubectl or kubelet" >&2 && exit 2 ;;
esac
version=$(sed -n 's|^require k8s.io/kubernetes ||p' "$here/go.mod")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/otel-oom
out=$cache/kubernetes-$(sha256sum "$here/go.sum" | cut -c1-16)

mkdir -p "$out"
exec 9>"$out/$name.lock"
flock 9
if [ ! -x "$out/$name" ]; then
	# `auto` lets an older Go fetch the newer one that the modules ask for. Without the version, an
	# API server takes itself for v0.0.0 and turns off what it has.
	export GOTOOLCHAIN=auto GOFLAGS="-mod=readonly -buildvcs=false -trimpath" CGO_ENABLED=0
	flags="-s -w -X k8s.io/component-base/version.gitVersion=$version"
	(cd "$here" && nice -n 19 go build -ldflags "$flags" -o "$out/$name.tmp" "$package") >&2
	mv "$out/$name.tmp" "$out/$name"
fi
echo "$out/$name"
