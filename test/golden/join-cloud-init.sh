#!/bin/sh
# Node node1, profile worker, session 6fkH0cTn3JvS.
set -eu
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
command -v cloud-init >/dev/null || {
  echo "this image has no cloud-init: use an image that has it, or another join" >&2
  exit 1
}
mkdir -p /run/pawl /etc/cloud/cloud.cfg.d
settings=/etc/cloud/cloud.cfg.d/99-pawl.cfg
network=/etc/cloud/cloud.cfg.d/99-pawl-network.cfg
# cloud-init writes down where its data came from, in files that all may read: the token is taken out of them.
forget() {
  rm -f "$settings" "$network"
  grep -rlsE --exclude=obj.pkl '/[A-Za-z0-9_-]{44}/nocloud/' /run/cloud-init /var/lib/cloud /var/log |
    xargs -r sed -i -E 's#/[A-Za-z0-9_-]{44}/nocloud/#/(token)/nocloud/#g'
}
trap forget EXIT
trap 'exit 143' HUP INT TERM
# What looked for data sources at the start of the system found none, and has said so there. What other boots left on a disk is not ours.
rm -rf /run/cloud-init "$network"
mkdir /run/cloud-init
chmod 755 /run/cloud-init
: >/run/cloud-init/enabled
{
  cat /etc/ssl/certs/ca-certificates.crt 2>/dev/null || true
  echo 'LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFBQUEKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=' | base64 -d
} >/run/pawl/cloud-init-ca.pem
export REQUESTS_CA_BUNDLE=/run/pawl/cloud-init-ca.pem
cat >"$settings" <<'END_OF_SETTINGS'
datasource_list: [NoCloud]
datasource:
  NoCloud:
    seedfrom: "https://boot.example.com:8443/v1/boot/node1.example.com/ssssssssssss-SEED-ssssssssssssssssssssssssss/nocloud/"
END_OF_SETTINGS
echo 'network: {config: disabled}' >"$network"
# Each stage records its own errors. What one could not do need not keep the next from what it can. The folders that it makes are the
# system's: all may enter them.
umask 022
cloud-init init --local || true
cloud-init init || true
cloud-init modules --mode=config || true
cloud-init modules --mode=final || true
umask 077
[ -e /run/cloud-init/result.json ] || {
  echo "cloud-init did not come to its end: see /var/log/cloud-init.log" >&2
  exit 1
}
code=0
cloud-init status --wait --long >/run/pawl/cloud-init-status || code=$?
cat /run/pawl/cloud-init-status
# 2: done, with something that it got over.
if [ "$code" != 0 ]; then
  [ "$code" != 2 ] || exit 0
  printf 'cloud-init: %s\n' "$(sed '1,/^detail:/d' /run/pawl/cloud-init-status | tr '\n' ' ' | cut -c 1-400)" >&2
  exit 1
fi
echo "cloud-init: done"
