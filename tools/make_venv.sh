#!/bin/sh
# Makes the virtual environment $1 with the first Python >= 3.11 found that can make one. One that
# is there and works is kept.
set -eu

new_enough='import ensurepip, sys; sys.exit(sys.version_info < (3, 11))'

if "$1/bin/python" -c "$new_enough" 2>/dev/null; then
	exit 0
fi
for python in python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3; do
	if "$python" -c "$new_enough" 2>/dev/null; then
		echo "$python -m venv $1"
		exec "$python" -m venv --clear "$1"
	fi
done
echo "No Python >= 3.11 with venv was found. On Debian 12, as root: apt-get install -y python3-venv" >&2
exit 1
