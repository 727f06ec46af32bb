{%- comment -%}
Joins a cluster of k3s as an agent. The token goes into the agent's configuration file, which only root can read, and never
into its arguments. Values stand inside double quotes of YAML, in a here-document that the shell does not expand.

host: the node
session: the boot session
profile: the node's profile
server: a server of the cluster, https://HOST:6443
token: an agent token with the hash of the cluster's CA
fields: other fields of the configuration, a list of name and values
{%- endcomment -%}
#!/bin/sh
# Profile {{ profile }}, session {{ session }}.
set -eu
umask 077
command -v k3s >/dev/null || {
  echo "this image has no k3s: use an image that has it, or another join" >&2
  exit 1
}
mkdir -p /etc/rancher/k3s
rm -f /etc/rancher/k3s/config.yaml.new
cat >/etc/rancher/k3s/config.yaml.new <<'END_OF_CONFIGURATION'
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
mv -f /etc/rancher/k3s/config.yaml.new /etc/rancher/k3s/config.yaml
# The agent writes it at each start, when a server has taken the token and signed for the kubelet.
joined=/var/lib/rancher/k3s/agent/kubelet.kubeconfig
rm -f "$joined"
# Its start waits for a server, without an end of its own.
systemctl --no-block restart k3s-agent.service
tries=0
until [ -s "$joined" ]; do
  tries=$((tries + 1))
  if [ "$tries" -gt 300 ]; then
    echo "k3s-agent did not join within 5 minutes: its journal says why" >&2
    exit 1
  fi
  sleep 1
done
echo "pawl: join: k3s took this node"
