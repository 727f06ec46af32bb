{%- comment -%}
Joins a network of ZeroTier before the cluster. A private network's controller has to let the node in.

host: the node
session: the boot session
profile: the node's profile
networkId: the network
{%- endcomment -%}
#!/bin/sh
# Profile {{ profile }}, session {{ session }}: ZeroTier of {{ host }}.
set -eu
command -v zerotier-cli >/dev/null || {
  echo "this image has no zerotier-cli: use an image that has it, or no overlay" >&2
  exit 1
}
zerotier-cli join {{ networkId }}
tries=0
until zerotier-cli listnetworks | grep -q '{{ networkId }} .* OK '; do
  tries=$((tries + 1))
  if [ "$tries" -gt 300 ]; then
    echo "the network {{ networkId }} did not let this node in within 5 minutes: $(zerotier-cli info)" >&2
    exit 1
  fi
  sleep 1
done
echo "pawl: overlay: this node is in the network {{ networkId }}"
