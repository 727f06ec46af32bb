#!/bin/sh
# Profile worker, session 6fkH0cTn3JvS: WireGuard of node1.
set -eu
if ! command -v wg >/dev/null || ! command -v wg-quick >/dev/null; then
  echo "this image has no wg and wg-quick: use an image that has wireguard-tools, or no overlay" >&2
  exit 1
fi
umask 077
mkdir -p /etc/wireguard /run/pawl
key=/etc/wireguard/wg0.key
[ -s "$key" ] || {
  wg genkey >"$key.new"
  mv -f "$key.new" "$key"
}
wg pubkey <"$key" >/run/pawl/wireguard.pub
cat >/etc/wireguard/wg0.conf <<'END_OF_CONFIGURATION'
[Interface]
PostUp = wg set %i private-key /etc/wireguard/wg0.key
Address = 10.8.0.7/24
Address = fd00:8::7/64
ListenPort = 51820
MTU = 1380

[Peer]
PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
Endpoint = vpn.example.com:51820
AllowedIPs = 10.8.0.0/24
AllowedIPs = fd00:8::/64
PersistentKeepalive = 25

[Peer]
PublicKey = TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=
AllowedIPs = 10.8.1.0/24
END_OF_CONFIGURATION
wg-quick down wg0 >/dev/null 2>&1 || true
wg-quick up wg0
echo "pawl: overlay: WireGuard is up on wg0, public key $(cat /run/pawl/wireguard.pub)"
