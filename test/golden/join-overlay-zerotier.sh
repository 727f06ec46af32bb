#!/bin/sh
# Profile worker, session 6fkH0cTn3JvS: ZeroTier of node1.
set -eu
command -v zerotier-cli >/dev/null || {
  echo "this image has no zerotier-cli: use an image that has it, or no overlay" >&2
  exit 1
}
zerotier-cli join 8056c2e21c000001
tries=0
until zerotier-cli listnetworks | grep -q '8056c2e21c000001 .* OK '; do
  tries=$((tries + 1))
  if [ "$tries" -gt 300 ]; then
    echo "the network 8056c2e21c000001 did not let this node in within 5 minutes: $(zerotier-cli info)" >&2
    exit 1
  fi
  sleep 1
done
echo "pawl: overlay: this node is in the network 8056c2e21c000001"
