#!/bin/sh
# Builds one of Grafana's backends from the go.mod of its folder and prints the binary's path:
#
#     build.sh tempo | loki
#
# The binary is kept under ${XDG_CACHE_HOME:-~/.cache}/otel-oom, keyed by the hash of go.sum, so only
# other versions build again (minutes). A lock lets two test runs share one build.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
name=$1
case $name in
tempo) package=github.com/grafana/tempo/cmd/tempo ;;
loki) package=github.com/grafana/loki/v3/cmd/loki ;;
*) echo "no backend is called $name: tempo or loki" >&2 && exit 2 ;;
esac
cache=${XDG_CACHE_HOME:-$HOME/.cache}/otel-oom
out=$cache/$name-$(sha256sum "$here/$name/go.sum" | cut -c1-16)

mkdir -p "$out"
exec 9>"$out/$name.lock"
flock 9
if [ ! -x "$out/$name" ]; then
	# `auto` lets an older Go fetch the newer one that the modules ask for.
	export GOTOOLCHAIN=auto GOFLAGS="-mod=readonly -buildvcs=false -trimpath" CGO_ENABLED=0
	(cd "$here/$name" && nice -n 19 go build -p 2 -ldflags "-s -w" -o "$out/$name.tmp" "$package") >&2
	mv "$out/$name.tmp" "$out/$name"
fi
echo "$out/$name"
