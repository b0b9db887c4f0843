#!/bin/sh
# Builds the collector of builder.yaml with the collector's own builder and prints the binary's path.
#
# The binary is kept under ${XDG_CACHE_HOME:-~/.cache}/otel-oom, keyed by the hash of builder.yaml,
# so only a changed builder.yaml builds again (minutes). A lock lets two test runs share one build.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
config=$here/builder.yaml
version=$(sed -n 's/^  version: //p' "$config")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/otel-oom
key=$(sha256sum "$config" | cut -c1-16)
out=$cache/collector-$key

mkdir -p "$cache"
exec 9>"$out.lock"
flock 9
if [ ! -x "$out/otelcol-test" ]; then
	# `auto` lets an older Go fetch the newer one that the collector's modules ask for. `-e` is for
	# `go mod tidy`, which also wants the modules of the components' own tests: not every mirror has them.
	export GOTOOLCHAIN=auto GOFLAGS="-mod=mod -buildvcs=false -e" CGO_ENABLED=0
	rm -rf "$out.tmp"
	mkdir -p "$out.tmp"
	sed "s|^dist:|&\n  output_path: $out.tmp|" "$config" >"$out.tmp/builder.yaml"
	(cd "$out.tmp" && go run "go.opentelemetry.io/collector/cmd/builder@v$version" --config builder.yaml) >&2
	mkdir -p "$out"
	mv "$out.tmp/otelcol-test" "$out/otelcol-test"
	rm -rf "$out.tmp"
fi
echo "$out/otelcol-test"
