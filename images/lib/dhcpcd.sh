#!/bin/sh
# What dhcpcd runs when an address or a name server comes: addresses and routes are its own work, the name servers are ours.
# They come from routers (RFC 8106) and from DHCPv6, each in a call of its own, so none is taken away.
# shellcheck disable=SC2154  # interface is set by dhcpcd
umask 022
for server in $(env | sed -n -e 's/^nd[0-9]*_rdnss[0-9]*_servers=//p' -e 's/^new_dhcp6_name_servers=//p'); do
  case $server in
    *[!0-9a-fA-F:.]*) continue ;;
    # Such an address says nothing without its link.
    fe80:*) server=$server%$interface ;;
  esac
  grep -qxF "nameserver $server" /etc/resolv.conf 2>/dev/null || echo "nameserver $server" >>/etc/resolv.conf
done
exit 0
