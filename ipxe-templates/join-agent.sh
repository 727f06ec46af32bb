{%- comment -%}
Joins a cluster of k3s or RKE2 as an agent: one program, one configuration file, two names. The token goes into that
file, which only root can read, and never into an argument. Values stand inside double quotes of YAML, in a here-document that the shell does not expand.

host: the node
session: the boot session
profile: the node's profile
distribution: k3s or rke2
server: a server of the cluster, https://HOST:PORT
token: an agent token with the hash of the cluster's CA
fields: other fields of the configuration, a list of name and values
{%- endcomment -%}
#!/bin/sh
# Profile {{ profile }}, session {{ session }}.
set -eu
umask 077
command -v {{ distribution }} >/dev/null || {
  echo "this image has no {{ distribution }}: use an image that has it, or another join" >&2
  exit 1
}
configuration=/etc/rancher/{{ distribution }}/config.yaml
mkdir -p "${configuration%/*}"
rm -f "$configuration.new"
cat >"$configuration.new" <<'END_OF_CONFIGURATION'
server: "{{ server }}"
token: "{{ token }}"
node-name: "{{ host }}"
{% for field in fields -%}
{{ field.name }}:
{%- for value in field.values %}
  - "{{ value }}"
{%- endfor %}
{% endfor -%}
END_OF_CONFIGURATION
mv -f "$configuration.new" "$configuration"
# The agent writes it at each start, when a server has taken the token and signed for the kubelet.
joined=/var/lib/rancher/{{ distribution }}/agent/kubelet.kubeconfig
rm -f "$joined"
# Its start waits for a server, without an end of its own.
systemctl --no-block restart {{ distribution }}-agent.service
tries=0
until [ -s "$joined" ]; do
  tries=$((tries + 1))
  if [ "$tries" -gt 300 ]; then
    echo "{{ distribution }}-agent did not join within 5 minutes: its journal says why" >&2
    exit 1
  fi
  sleep 1
done
echo "pawl: join: {{ distribution }} took this node"
