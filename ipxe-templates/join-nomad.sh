{%- comment -%}
Runs a Nomad client: the rest of its configuration (TLS, plugins) is the image's own, in /etc/nomad.d. The introduction token
goes into the file where a client looks for it. Values stand inside double quotes of HCL, in a here-document.

host: the node
session: the boot session
profile: the node's profile
servers: the servers' RPC addresses
datacenter: the node's datacenter
region: the cluster's region, or nothing
nodePool: the node's pool, or nothing
dataDir: where the client keeps its state
introToken: a node introduction token, or nothing
{%- endcomment -%}
#!/bin/sh
# Profile {{ profile }}, session {{ session }}.
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
name       = "{{ host }}"
datacenter = "{{ datacenter }}"
{% if region != "" -%}
region     = "{{ region }}"
{% endif -%}
data_dir   = "{{ dataDir }}"
server {
  enabled = false
}
client {
  enabled = true
{%- if nodePool != "" %}
  node_pool = "{{ nodePool }}"
{%- endif %}
  server_join {
    retry_join = [
{%- for server in servers %}
      "{{ server }}",
{%- endfor %}
    ]
  }
}
END_OF_CONFIGURATION
{% if introToken != "" -%}
umask 077
mkdir -p {{ dataDir }}/client
rm -f {{ dataDir }}/client/intro_token.jwt
cat >{{ dataDir }}/client/intro_token.jwt <<'END_OF_TOKEN'
{{ introToken }}
END_OF_TOKEN
{% endif -%}
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
