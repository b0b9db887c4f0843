#!/bin/sh
# Builds a collector with the collector's own builder and prints the binary's path:
#
#     build.sh [builder | k8sattributes]     the YAML file beside this one; builder if none is given
#
# The binary is kept under ${XDG_CACHE_HOME:-~/.cache}/otel-oom, keyed by the hash of that file, so
# only a changed file builds again (minutes). A lock lets two test runs share one build.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
config=$here/${1:-builder}.yaml
name=$(sed -n 's/^  name: //p' "$config")
version=$(sed -n 's/^  version: //p' "$config")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/otel-oom
key=$(sha256sum "$config" | cut -c1-16)
out=$cache/collector-$key

mkdir -p "$cache"
exec 9>"$out.lock"
flock 9
if [ ! -x "$out/$name" ]; then
	# `auto` lets an older Go fetch the newer one that the collector's modules ask for. `-e` is for
	# `go mod tidy`, which also wants the modules of the components' own tests: not every mirror has them.
	export GOTOOLCHAIN=auto GOFLAGS="-mod=mod -buildvcs=false -e" CGO_ENABLED=0
	rm -rf "$out.tmp"
	mkdir -p "$out.tmp"
	sed "s|^dist:|&\n  output_path: $out.tmp|" "$config" >"$out.tmp/builder.yaml"
	(cd "$out.tmp" && nice -n 19 go run "go.opentelemetry.io/collector/cmd/builder@v$version" --config builder.yaml) >&2
	mkdir -p "$out"
	mv "$out.tmp/$name" "$out/$name"
	rm -rf "$out.tmp"
fi
echo "$out/$name"
