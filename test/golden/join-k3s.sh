#!/bin/sh
# Profile worker, session 6fkH0cTn3JvS.
set -eu
umask 077
command -v k3s >/dev/null || {
  echo "this image has no k3s: use an image that has it, or another join" >&2
  exit 1
}
configuration=/etc/rancher/k3s/config.yaml
mkdir -p "${configuration%/*}"
rm -f "$configuration.new"
cat >"$configuration.new" <<'END_OF_CONFIGURATION'
server: "https://k3s.example.com:6443"
token: "K10abababababababababababababababababababababababababababababababab::node:0123456789abcdef"
node-name: "node1"
node-label:
  - "rack=a3"
  - "example.com/pool=edge"
node-taint:
  - "dedicated=batch:NoSchedule"
kubelet-arg:
  - "max-pods=200"
END_OF_CONFIGURATION
mv -f "$configuration.new" "$configuration"
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
