{%- comment -%}
Joins a network of Nebula before the cluster: writes CA, certificate and key, and the least configuration that uses them.

host: the node
session: the boot session
profile: the node's profile
ca: the network's CA, base64
certificate: the node's certificate, base64
key: its key, base64
lighthouses: a list of address within the network, and endpoints
{%- endcomment -%}
#!/bin/sh
# Profile {{ profile }}, session {{ session }}: Nebula of {{ host }}.
set -eu
command -v nebula >/dev/null || {
  echo "this image has no nebula: use an image that has it, or no overlay" >&2
  exit 1
}
umask 077
mkdir -p /etc/nebula
base64 -d >/etc/nebula/ca.crt <<'END_OF_CA'
{{ ca }}
END_OF_CA
base64 -d >/etc/nebula/host.crt <<'END_OF_CERTIFICATE'
{{ certificate }}
END_OF_CERTIFICATE
base64 -d >/etc/nebula/host.key <<'END_OF_KEY'
{{ key }}
END_OF_KEY
cat >/etc/nebula/config.yml <<'END_OF_CONFIGURATION'
pki:
  ca: /etc/nebula/ca.crt
  cert: /etc/nebula/host.crt
  key: /etc/nebula/host.key
static_host_map:
{%- for lighthouse in lighthouses %}
  "{{ lighthouse.address }}":
{%- for endpoint in lighthouse.endpoints %}
    - "{{ endpoint }}"
{%- endfor %}
{%- endfor %}
lighthouse:
  am_lighthouse: false
  hosts:
{%- for lighthouse in lighthouses %}
    - "{{ lighthouse.address }}"
{%- endfor %}
listen:
  host: "::"
  port: 0
tun:
  dev: nebula1
firewall:
  outbound:
    - port: any
      proto: any
      host: any
  inbound:
    - port: any
      proto: any
      host: any
END_OF_CONFIGURATION
nebula -test -config /etc/nebula/config.yml
systemctl restart nebula.service
echo "pawl: overlay: Nebula runs"
