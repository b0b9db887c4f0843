#!/bin/sh
# The first process of the VM: mounts what the agent and the tests expect, runs the script that
# vm.py handed in, and says its exit status. Output goes to the second serial line, because the
# first one is the kernel's, which hands over $said, $script and $memory_cgroup from its command line.
# shellcheck disable=SC2154
mount -t devtmpfs dev /dev 2>/dev/null # some kernels have done it
exec </dev/null >"/dev/$said" 2>&1
stty -F "/dev/$said" raw -echo

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /tmp
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
if [ "$memory_cgroup" = v1 ]; then
	mount -t tmpfs cgroup /sys/fs/cgroup
	mkdir /sys/fs/cgroup/memory
	mount -t cgroup -o memory memory /sys/fs/cgroup/memory
else
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
ip link set lo up

# Kernels number the drives as they come, so a drive is found by its serial.
drive() {
	for found in /sys/block/nvme*; do
		read -r serial <"$found/device/serial"
		[ "$serial" != "$1" ] || echo "/dev/${found##*/}"
	done
}
# The site-packages of the wheel that is tested, and a tar with the script and its files.
mount -t ext4 -o ro,noload "$(drive site)" /opt/site
mkdir /tmp/guest
tar -xf "$(drive files)" -C /tmp/guest
cd /tmp/guest || exit

export HOME=/root XDG_CACHE_HOME=/tmp/guest/cache PYTHONPATH=/opt/site PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8
case "$script" in
*.py) python3 "$script" ;;
*) sh "$script" ;;
esac
echo "vm-exit: $?"
echo o >/proc/sysrq-trigger
sleep 60
