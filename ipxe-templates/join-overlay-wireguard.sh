{%- comment -%}
Brings up a tunnel of WireGuard before the join. The private key is made here, where there is none yet, and never leaves the
node; the public key goes along with the report of success.

host: the node
session: the boot session
profile: the node's profile
interface: the tunnel's interface
addresses: the node's addresses in it
listenPort: the UDP port, or nothing
mtu: the interface's MTU, or nothing
peers: a list of public key, endpoint, allowed addresses and seconds of keepalive
{%- endcomment -%}
#!/bin/sh
# Profile {{ profile }}, session {{ session }}: WireGuard of {{ host }}.
set -eu
if ! command -v wg >/dev/null || ! command -v wg-quick >/dev/null; then
  echo "this image has no wg and wg-quick: use an image that has wireguard-tools, or no overlay" >&2
  exit 1
fi
umask 077
mkdir -p /etc/wireguard /run/pawl
key=/etc/wireguard/{{ interface }}.key
[ -s "$key" ] || {
  wg genkey >"$key.new"
  mv -f "$key.new" "$key"
}
wg pubkey <"$key" >/run/pawl/wireguard.pub
cat >/etc/wireguard/{{ interface }}.conf <<'END_OF_CONFIGURATION'
[Interface]
PostUp = wg set %i private-key /etc/wireguard/{{ interface }}.key
{% for address in addresses -%}
Address = {{ address }}
{% endfor -%}
{% if listenPort != "" -%}
ListenPort = {{ listenPort }}
{% endif -%}
{% if mtu != "" -%}
MTU = {{ mtu }}
{% endif -%}
{% for peer in peers %}
[Peer]
PublicKey = {{ peer.publicKey }}
{% if peer.endpoint != "" -%}
Endpoint = {{ peer.endpoint }}
{% endif -%}
{% for range in peer.allowedIps -%}
AllowedIPs = {{ range }}
{% endfor -%}
{% if peer.keepalive != "" -%}
PersistentKeepalive = {{ peer.keepalive }}
{% endif -%}
{% endfor -%}
END_OF_CONFIGURATION
wg-quick down {{ interface }} >/dev/null 2>&1 || true
wg-quick up {{ interface }}
echo "pawl: overlay: WireGuard is up on {{ interface }}, public key $(cat /run/pawl/wireguard.pub)"
