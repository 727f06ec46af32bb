#!/bin/sh
# Runs OUT/script as root of a Debian of its own, which is gone when it ends: a tmpfs with the archive TAR unpacked in it, in namespaces of
# its own. The network is this machine's. It finds OUT at /out; OUT/cmdline is its kernel command line.
#
#   unshare --mount --uts --ipc --pid --fork test/helpers/system-root.sh TAR OUT
set -eu
tar=$1
out=$2
root=$out/root
mkdir -p "$root"
mount --make-rprivate /
mount -t tmpfs -o mode=755,size=1g tmpfs "$root"
tar -xf "$tar" -C "$root" --exclude './dev/*'
mount -t proc proc "$root/proc"
mount --bind "$out/cmdline" "$root/proc/cmdline"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/out"
mount --bind "$out" "$root/out"
hostname unnamed
exec chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root /bin/sh /out/script
