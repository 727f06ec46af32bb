{%- comment -%}
Joins a tailnet before the cluster. The auth key is in a file that goes when the node is in, never in an argument.

host: the node
session: the boot session
profile: the node's profile
authKey: an auth key, base64
loginServer: another coordination server, or nothing
tags: the tags that the node asks for
{%- endcomment -%}
#!/bin/sh
# Profile {{ profile }}, session {{ session }}.
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
{{ authKey }}
END_OF_KEY
tailscale up --timeout=300s --auth-key="file:$key" --hostname={{ host }}
{%- if loginServer != "" %} --login-server={{ loginServer }}{% endif -%}
{%- for tag in tags %}{% if forloop.first %} --advertise-tags={% else %},{% endif %}{{ tag }}{% endfor %}
echo "pawl: overlay: this node is in the tailnet"
