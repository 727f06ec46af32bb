#!/bin/sh
# What busybox's udhcpc runs for each change of a lease. Without a script it takes the lease and sets no address, silently.
# shellcheck disable=SC2154  # interface, ip, mask, router and dns are set by udhcpc
umask 022
case $1 in
  bound | renew)
    ip addr replace "$ip/$mask" dev "$interface"
    # $router may be a list: the first is the one to use.
    [ -z "${router-}" ] || ip route replace default via "${router%% *}" dev "$interface"
    [ -z "${dns-}" ] || for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf
    ;;
  deconfig)
    # Sent before each discovery too, when the address may still be in use: nothing is taken away.
    ip link set "$interface" up
    ;;
esac
exit 0
