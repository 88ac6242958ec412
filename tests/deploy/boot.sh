#!/bin/sh
# Boots a systemd of its own: a copy-on-write view of this machine's files, its own processes, mounts,
# control groups and network. Everything is gone when it ends.
#
#   boot.sh DIRECTORY MOUNT=SOURCE...     as the first process of namespaces of its own (manager.py)
#
# DIRECTORY/etc becomes /etc/systemd/system and DIRECTORY/opt becomes /opt; SOURCE is seen at /MOUNT.
# DIRECTORY/scratch is an empty folder.
set -eu
directory=$1
shift
mount --make-rprivate /
mount -t tmpfs tmpfs "$directory/scratch"
mkdir "$directory/scratch/upper" "$directory/scratch/work" "$directory/scratch/root"
root=$directory/scratch/root
mount -t overlay overlay "$root" \
	-o "lowerdir=/,upperdir=$directory/scratch/upper,workdir=$directory/scratch/work"
# Read-only, because the kernel's settings and devices are this machine's.
mount -t proc proc "$root/proc"
mount -o bind,ro "$root/proc/sys" "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
	touch "$root/dev/$node"
	mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
# Nothing of this machine's own starts: neither what it has enabled nor what every system has.
mount -t tmpfs tmpfs "$root/etc/systemd/system"
for wants in "$root"/usr/lib/systemd/system/*.target.wants; do
	mount -t tmpfs tmpfs "$wants"
done
: >"$root/etc/fstab"
cp -r "$directory"/etc/. "$root/etc/systemd/system/"
mkdir -p "$root/opt"
mount -t tmpfs tmpfs "$root/opt"
cp -r "$directory"/opt/. "$root/opt/"
for pair in "$@"; do
	mkdir -p "$root/${pair%%=*}"
	mount --bind "${pair#*=}" "$root/${pair%%=*}"
done
ip link set lo up
cd "$root"
mkdir -p old
pivot_root . old
umount -l /old
# Credentials and sandboxes are mounted by systemd and must be seen by the services.
mount --make-rshared /
exec env -i container=flexload-tests PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	/lib/systemd/systemd --system --unit=tests.target --show-status=0
