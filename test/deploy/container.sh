#!/bin/sh
# Runs WORK/box/script as root of what a container runtime makes: this machine's own root with TREE over it, nothing of it to be
# written to, and a network, processes and mounts of its own. WORK/mounts says what is mounted: SOURCE TARGET ro|rw, one a line; the
# script finds WORK/box at /box.
#
#   unshare --mount --net --pid --fork test/deploy/container.sh TREE WORK
set -eu
tree=$1
work=$2
mount --make-rprivate /
root=$work/root
mkdir -p "$root" "$work/layer"
# Of another file system than /: layers must not lie in one another.
mount -t tmpfs tmpfs "$work/layer"
cp -a "$tree/." "$work/layer"
mount -t overlay overlay -o "lowerdir=$work/layer:/" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
while read -r source target mode; do
  mount --bind "$source" "$root$target"
  mount -o "remount,bind,$mode" "$root$target"
done <"$work/mounts"
ip link set lo up
exec chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /bin/sh /box/script
