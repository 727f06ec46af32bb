{%- comment -%}
Has the system's own cloud-init fetch its data from this server by NoCloud, run all its stages, and tells what became of them. The URL
holds a token: it is in a file for root alone, and opens nothing once this boot is reported. cloud-init trusts this server's CA beside
those of the system, in its own process only.

host: the node
session: the boot session, which is the instance's id too
profile: the node's profile
seedUrl: what meta-data, user-data and vendor-data are below
ca: the certificate of this server's CA, PEM as base64
network: network configuration for /etc/cloud/cloud.cfg.d as base64, or empty: then cloud-init leaves the network as it is
{%- endcomment -%}
#!/bin/sh
# Node {{ host }}, profile {{ profile }}, session {{ session }}.
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
  echo '{{ ca }}' | base64 -d
} >/run/pawl/cloud-init-ca.pem
export REQUESTS_CA_BUNDLE=/run/pawl/cloud-init-ca.pem
cat >"$settings" <<'END_OF_SETTINGS'
datasource_list: [NoCloud]
datasource:
  NoCloud:
    seedfrom: "{{ seedUrl }}/"
END_OF_SETTINGS
{% if network == '' -%}
echo 'network: {config: disabled}' >"$network"
{%- else -%}
echo '{{ network }}' | base64 -d >"$network"
{%- endif %}
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
