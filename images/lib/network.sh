# shellcheck shell=dash
# shellcheck disable=SC2154,SC2034  # the NIC_ values are set by read_handover, NETWORK_IS_UP is read by report_error
# How the agents bring up the NIC that the machine booted from, and only that one, by the address family, the method and the client
# id that the boot loader used: so the server sees the address that it knows. Sourced by agent.sh, whose rules hold here too.

# How often, and how long each time, a router is waited for.
NETWORK_TRIES=3
ROUTER_SECONDS=20

network_up() {
  local device
  device=$(find_nic "$NIC_MAC") || fail "the boot NIC $NIC_MAC is not there" \
    "this kernel sees:$(list_nics). The image may lack its driver"
  ip link set lo up
  ip link set "$device" up
  if [ -n "$NIC_VLAN" ]; then
    modprobe -q 8021q
    ip link add link "$device" name "$device.$NIC_VLAN" type vlan id "$NIC_VLAN" || fail "VLAN $NIC_VLAN cannot be made on $device"
    device=$device.$NIC_VLAN
    ip link set "$device" up
  fi
  if [ "$NIC_FAMILY" = 6 ]; then
    use_ipv6 "$device"
  elif [ "$NIC_DHCP" = true ] || [ -z "$NIC_ADDRESS" ]; then
    use_dhcp "$device"
  else
    use_static_address "$device"
  fi
  NETWORK_IS_UP=yes
  echo "$device" >"$RUN/nic"
  say "network up: $device $(address_of "$device")"
}

# address_of DEVICE: with its prefix length. Where it has several, the one that the boot loader had.
address_of() {
  ip "-$NIC_FAMILY" -o addr show dev "$1" scope global |
    awk -v had="$NIC_ADDRESS6/" '!first { first = $4 } index($4, had) == 1 { same = $4 } END { print (same ? same : first) }'
}

list_nics() {
  local found=
  for nic in /sys/class/net/*; do
    [ "${nic##*/}" = lo ] || found="$found ${nic##*/}=$(cat "$nic/address")"
  done
  echo "${found:- no NIC at all}"
}

# find_nic MAC: its name; without a MAC the first that is not loopback. Drivers may need some seconds.
find_nic() {
  local tries=0 nic
  while [ "$tries" -lt 60 ]; do
    for nic in /sys/class/net/*; do
      [ "${nic##*/}" != lo ] || continue
      if [ -z "$1" ] || [ "$(cat "$nic/address" 2>/dev/null)" = "$1" ]; then
        echo "${nic##*/}"
        return 0
      fi
    done
    tries=$((tries + 1))
    sleep 0.25
  done
  return 1
}

use_name_server() {
  echo "nameserver $1" >/etc/resolv.conf
  chmod 644 /etc/resolv.conf
}

# --- IPv4 ----------------------------------------------------------------------------------------------------------

# The client id is udhcpc's default, type and MAC: the same as iPXE's, so the lease stays the same. Its own words go to a file.
use_dhcp() {
  local tries=0
  while ! udhcpc -i "$1" -n -q -t 5 -T 2 -s /usr/lib/pawl/udhcpc.sh >"$RUN/udhcpc.log" 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 6 ] || fail "no DHCP server answers on $1" 'check the cable, the VLAN and the DHCP server'
    say "no DHCP answer on $1, asking again"
  done
}

use_static_address() {
  ip addr add "$NIC_ADDRESS/${NIC_NETMASK:-32}" dev "$1" || fail "address $NIC_ADDRESS cannot be set on $1"
  [ -z "$NIC_GATEWAY" ] || ip route replace default via "$NIC_GATEWAY" dev "$1" || fail "gateway $NIC_GATEWAY cannot be used on $1"
  [ -z "$NIC_DNS" ] || use_name_server "$NIC_DNS"
}

# --- IPv6 ----------------------------------------------------------------------------------------------------------

use_ipv6() {
  modprobe -q ipv6 2>/dev/null
  [ -d /proc/sys/net/ipv6 ] || fail 'this kernel has no IPv6' 'leave out ipv6.disable=1, or boot this node over IPv4'
  [ -z "$NIC_DNS6" ] || use_name_server "$NIC_DNS6"
  if [ "$NIC_METHOD6" = static ]; then
    use_static_ipv6 "$1"
  else
    use_router "$1"
  fi
}

use_static_ipv6() {
  echo 0 >"/proc/sys/net/ipv6/conf/$1/autoconf"
  # Without a gateway the routers say where to go.
  [ -z "$NIC_GATEWAY6" ] || echo 0 >"/proc/sys/net/ipv6/conf/$1/accept_ra"
  ip -6 addr add "$NIC_ADDRESS6/${NIC_PREFIX6:-64}" dev "$1" || fail "address $NIC_ADDRESS6 cannot be set on $1"
  wait_until_usable "$1"
  [ -z "$NIC_GATEWAY6" ] || ip -6 route replace default via "$NIC_GATEWAY6" dev "$1" ||
    fail "gateway $NIC_GATEWAY6 cannot be used on $1"
}

# A new address is tentative for a second or two, in which another machine may say that it has it (duplicate address detection).
wait_until_usable() {
  local tries=0 state
  while :; do
    state=$(ip -6 -o addr show dev "$1" | grep -F " $NIC_ADDRESS6/")
    case $state in
      *dadfailed*) fail "another machine on $1 has the address $NIC_ADDRESS6" 'give one of them another address' ;;
      *tentative* | '') ;;
      *) return 0 ;;
    esac
    tries=$((tries + 1))
    [ "$tries" -lt 40 ] || fail "the address $NIC_ADDRESS6 cannot be used on $1: ${state:-it is gone}"
    sleep 0.25
  done
}

# Address, router and name servers as the routers here say: SLAAC, DHCPv6, or both. dhcpcd goes on renewing them.
use_router() {
  local tries=0
  until start_dhcpcd "$1" -w -t "$ROUTER_SECONDS"; do
    tries=$((tries + 1))
    [ "$tries" -lt "$NETWORK_TRIES" ] || no_ipv6 "$1"
    say "no IPv6 address on $1, asking again"
  done
  wait_for_same_address "$1"
}

# start_dhcpcd DEVICE [options]: DHCPv6 identity and SLAAC address are those of iPXE (its DUID and IAID, EUI-64), hence the same address.
start_dhcpcd() {
  local device=$1
  shift
  mkdir -p /var/lib/dhcpcd
  cat >"$RUN/dhcpcd.conf" <<END
ipv6only
persistent
nodev
slaac hwaddr
duid ${NIC_DUID:-00:03:00:01:$(cat "/sys/class/net/$device/address")}
option dhcp6_name_servers
script /usr/lib/pawl/dhcpcd.sh
allowinterfaces $device
interface $device
${NIC_IAID:+iaid $NIC_IAID}
END
  dhcpcd -q -f "$RUN/dhcpcd.conf" -j "$RUN/dhcpcd.log" "$@" "$device" >/dev/null 2>&1
}

# Addresses and routes stay: the next system takes them over.
stop_dhcpcd() { pidof dhcpcd | xargs -r kill -9 2>/dev/null; }

no_ipv6() {
  if grep -q 'DAD detected' "$RUN/dhcpcd.log"; then
    fail "another machine on $1 has the address of this one" 'two machines with one MAC address, or one DHCPv6 lease given twice'
  elif grep -q 'Router Advertisement from' "$RUN/dhcpcd.log"; then
    fail "a router answers on $1, but nobody gives an IPv6 address" 'the router announces no prefix for SLAAC, and no DHCPv6 server answers'
  fi
  fail "no IPv6 router answers on $1" 'check the cable, the VLAN, and that a router advertises IPv6 here'
}

# Of several addresses the one that iPXE had may come last; without it the boot goes on, from an address that the server may not know.
wait_for_same_address() {
  local tries=0
  [ -n "$NIC_ADDRESS6" ] || return 0
  while ! ip -6 -o addr show dev "$1" scope global | grep -v tentative | grep -qF " $NIC_ADDRESS6/"; do
    tries=$((tries + 1))
    [ "$tries" -lt 20 ] || { say "iPXE had the address $NIC_ADDRESS6, this system has $(address_of "$1")"; return 0; }
    sleep 0.25
  done
}
