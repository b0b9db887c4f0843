#!/bin/sh
# Installs the Debian packages named as arguments, if one is missing and this is root.
# Otherwise it says the one line to run and goes on: a step that lacks its tool then stops by itself.
set -eu

missing=
for package in "$@"; do
	state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "No apt-get here: install by hand what these Debian packages hold:$missing" >&2
elif [ "$(id -u)" != 0 ]; then
	echo "Missing packages; run as root: apt-get install -y --no-install-recommends$missing" >&2
else
	export DEBIAN_FRONTEND=noninteractive
	# The package lists of a fresh machine are empty or old.
	# shellcheck disable=SC2086 # one word a package
	apt-get install -q -y --no-install-recommends $missing ||
		{ apt-get update -q && apt-get install -q -y --no-install-recommends $missing; }
fi
