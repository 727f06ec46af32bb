#!/bin/sh
# Profile worker, session 6fkH0cTn3JvS: Nebula of node1.
set -eu
command -v nebula >/dev/null || {
  echo "this image has no nebula: use an image that has it, or no overlay" >&2
  exit 1
}
umask 077
mkdir -p /etc/nebula
base64 -d >/etc/nebula/ca.crt <<'END_OF_CA'
Y2EK
END_OF_CA
base64 -d >/etc/nebula/host.crt <<'END_OF_CERTIFICATE'
Y2VydGlmaWNhdGUK
END_OF_CERTIFICATE
base64 -d >/etc/nebula/host.key <<'END_OF_KEY'
a2V5Cg==
END_OF_KEY
cat >/etc/nebula/config.yml <<'END_OF_CONFIGURATION'
pki:
  ca: /etc/nebula/ca.crt
  cert: /etc/nebula/host.crt
  key: /etc/nebula/host.key
static_host_map:
  "192.168.100.1":
    - "lighthouse.example.com:4242"
    - "203.0.113.9:4242"
lighthouse:
  am_lighthouse: false
  hosts:
    - "192.168.100.1"
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
