#!/bin/sh
# Makes a small Debian 12 root file system at $1, a folder or a tar, from packages; options for
# mmdebstrap may follow. Needs root.
#
# Package sources and apt's way to them (proxy, checks) are this machine's.
set -eu

target=$1
shift
settings=$(mktemp)
trap 'rm -f "$settings"' EXIT

apt-config dump --format '%F "%v";%n' Acquire |
	grep -iE '^Acquire::(https?::Proxy|Check-|Retries|ForceIP)' >"$settings" || true
sources=$("$(dirname "$0")/debian_sources.sh" bookworm)
echo "$sources" |
	mmdebstrap --quiet --variant=minbase --aptopt="$settings" "$@" bookworm "$target" -
