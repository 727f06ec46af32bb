#!/bin/sh
# Node node1, profile worker, session 6fkH0cTn3JvS.
set -eu
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /run/pawl
# Ignition leaves its result in the system that it made, and what it fetched in /run.
if [ -s /etc/.ignition-result.json ] && [ -e /run/ignition.json ]; then
  echo "ignition: done in the initramfs"
  exit 0
fi
apply=$(command -v ignition-apply || true)
for place in /usr/libexec/ignition-apply /usr/lib/dracut/modules.d/30ignition/ignition; do
  if [ -n "$apply" ] || [ ! -x "$place" ]; then continue; fi
  # One program: by this name it applies.
  ln -sf "$place" /run/pawl/ignition-apply
  apply=/run/pawl/ignition-apply
done
[ -n "$apply" ] || {
  echo "this image has no Ignition, in its initramfs or as ignition-apply: use an image that has it, or another join" >&2
  exit 1
}
command -v curl >/dev/null || {
  echo "this image has no curl, which fetches what Ignition is to apply" >&2
  exit 1
}
trap 'rm -f /run/pawl/ignition.curl /run/pawl/ignition.json' EXIT
trap 'exit 143' HUP INT TERM
echo 'LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFBQUEKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=' | base64 -d >/run/pawl/ignition-ca.pem
cat >/run/pawl/ignition.curl <<'END_OF_SETTINGS'
url = "https://boot.example.com:8443/v1/boot/node1.example.com/ssssssssssss-SEED-ssssssssssssssssssssssssss/ignition"
cacert = "/run/pawl/ignition-ca.pem"
proto = "=https"
output = "/run/pawl/ignition.json"
silent
show-error
fail
connect-timeout = 15
max-time = 60
retry = 5
END_OF_SETTINGS
curl --config /run/pawl/ignition.curl || {
  echo "ignition: the configuration cannot be fetched" >&2
  exit 1
}
# It refuses systems that have been provisioned before. This one was made anew by this boot, as a container's is when it is built.
# The folders that it makes are the system's: all may enter them.
(umask 022 && container=pawl exec "$apply" /run/pawl/ignition.json) >/run/pawl/ignition.log 2>&1 || {
  printf 'ignition: %s\n' "$(sed -n 's/^CRITICAL *: *//p' /run/pawl/ignition.log | tail -n 1 | cut -c 1-400)" >&2
  exit 1
}
# What it writes for the first start of a system is not looked at by one that runs.
presets=/etc/systemd/system-preset/20-ignition.preset
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  [ ! -e "$presets" ] || sed -n 's/^enable //p' "$presets" | xargs -r systemctl enable --now
fi
echo "ignition: applied by ignition-apply"
