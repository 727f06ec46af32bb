#!/bin/sh
# Profile worker, session 6fkH0cTn3JvS.
set -eu
command -v tailscale >/dev/null || {
  echo "this image has no tailscale: use an image that has it, or no overlay" >&2
  exit 1
}
mkdir -p /run/pawl
key=$(mktemp /run/pawl/tailscale.XXXXXX)
trap 'rm -f "$key"' EXIT
trap 'exit 143' HUP INT TERM
base64 -d >"$key" <<'END_OF_KEY'
dHNrZXk=
END_OF_KEY
tailscale up --timeout=300s --auth-key="file:$key" --hostname=node1
echo "pawl: overlay: this node is in the tailnet"
