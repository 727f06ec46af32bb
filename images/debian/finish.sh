#!/bin/sh
# Run by mmdebstrap when all packages are installed: finish.sh TREE.
# Adds what is not from packages, turns services on and off, and removes what differs from build to build or belongs to one machine.
set -eu
tree=$1

cp -R "$PAWL_ADD/." "$tree/"
chroot "$tree" depmod "$PAWL_KERNEL_RELEASE"

# --- services ---
turn_on() { systemctl --root "$tree" enable --quiet "$@"; }
turn_on systemd-networkd.service systemd-resolved.service systemd-timesyncd.service ssh.service containerd.service
turn_on pawl-prepare.service pawl-host-keys.service pawl-agent.service var-lib-containerd.mount
systemctl --root "$tree" set-default --quiet multi-user.target
# Nothing updates itself in a system that is made anew at each boot.
systemctl --root "$tree" mask --quiet apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
  e2scrub_reap.service
# A NIC keeps the name it has had since the initramfs: renaming the boot NIC would take it down.
mkdir -p "$tree/etc/systemd/network"
ln -sf /dev/null "$tree/etc/systemd/network/99-default.link"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$tree/etc/resolv.conf"
mkdir -p "$tree/etc/apt/keyrings" "$tree/etc/kubernetes/manifests" "$tree/opt/cni/bin"

# --- nobody gets in by what every copy of this image has ---
if grep -vE '^[^:]+:[!*]' "$tree/etc/shadow"; then
  echo 'E: an account of the image has a password' >&2
  exit 1
fi
rm -f "$tree"/etc/ssh/ssh_host_*
rm -f "$tree/etc/hostname" "$tree/etc/.resolv.conf.systemd-resolved.bak" "$tree/var/lib/dbus/machine-id" "$tree/var/lib/systemd/random-seed"
# Empty: each boot makes its own, and is not taken for a first boot that asks questions.
: >"$tree/etc/machine-id"

# --- what only the build needed, or what tells of it ---
rm -f "$tree"/etc/apt/sources.list "$tree"/etc/apt/sources.list.d/* "$tree"/etc/apt/apt.conf.d/99mmdebstrap \
  "$tree"/etc/dpkg/dpkg.cfg.d/99mmdebstrap
rm -rf "$tree"/var/lib/apt/lists/* "$tree"/var/cache/* "$tree"/var/lib/apt/extended_states
find "$tree/var/log" -type f -delete
rm -f "$tree"/etc/*- "$tree"/var/lib/dpkg/*-old
# The day on which a password was changed is the day of the build.
sed -i -E 's/^([^:]*:[^:]*):[0-9]+:/\1:20000:/' "$tree/etc/shadow"
