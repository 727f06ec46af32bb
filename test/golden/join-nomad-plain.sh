#!/bin/sh
# Profile worker, session 6fkH0cTn3JvS.
set -eu
command -v nomad >/dev/null || {
  echo "this image has no nomad: use an image that has it, or another join" >&2
  exit 1
}
command -v curl >/dev/null || {
  echo "this image has no curl, which asks the client whether a server answers it" >&2
  exit 1
}
mkdir -p /etc/nomad.d
cat >/etc/nomad.d/pawl.hcl <<'END_OF_CONFIGURATION'
name       = "node1"
datacenter = "dc1"
data_dir   = "/opt/nomad/data"
server {
  enabled = false
}
client {
  enabled = true
  server_join {
    retry_join = [
      "nomad.example.com",
    ]
  }
}
END_OF_CONFIGURATION
systemctl restart nomad.service
# A client is well when a server answers it. Where its API wants TLS it cannot be asked from here.
tries=0
while :; do
  health=$(curl -s -o /dev/null -m 5 -w '%{http_code}' 'http://127.0.0.1:4646/v1/agent/health?type=client') || true
  case $health in
    200) echo "pawl: join: a server of Nomad answers this client"; break ;;
    400) echo "pawl: join: the client runs; its API wants TLS and cannot be asked"; break ;;
  esac
  tries=$((tries + 1))
  if [ "$tries" -gt 300 ]; then
    echo "no server of Nomad answers this client within 5 minutes: its journal says why" >&2
    exit 1
  fi
  sleep 1
done
