#!/bin/sh
# Prints this machine's Debian package sources, one `deb` line each, for suite $1.
#
#   tools/debian_sources.sh bookworm            the suite, its updates and its security archive
#   tools/debian_sources.sh sid --plain         that suite alone, for packages to look at
#
# They are asked of apt, so whatever mirror the machine uses is used, and none is named here.
set -eu

suite=$1
# shellcheck source=/dev/null
here=$(. /etc/os-release && echo "$VERSION_CODENAME")

targets() {
	apt-get indextargets --format "\$(REPO_URI) \$(RELEASE)" \
		'Created-By: Packages' 'Origin: Debian' 'Component: main' "$@" | sort -u
}

if [ -z "$(targets)" ]; then
	apt-get update -q >&2
fi
if [ -z "$(targets)" ]; then
	echo "apt has no Debian archive among this machine's sources" >&2
	exit 1
fi
if [ "${2:-}" = --plain ]; then
	targets 'Label: Debian' "Release: $here" | while read -r uri _; do
		echo "deb $uri $suite main"
	done
else
	targets | while read -r uri release; do
		echo "deb $uri $(echo "$release" | sed "s/^$here/$suite/") main"
	done
fi
