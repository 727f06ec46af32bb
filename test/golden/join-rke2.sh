#!/bin/sh
# Profile worker, session 6fkH0cTn3JvS.
set -eu
umask 077
command -v rke2 >/dev/null || {
  echo "this image has no rke2: use an image that has it, or another join" >&2
  exit 1
}
configuration=/etc/rancher/rke2/config.yaml
mkdir -p "${configuration%/*}"
rm -f "$configuration.new"
cat >"$configuration.new" <<'END_OF_CONFIGURATION'
server: "https://[2001:db8::1]:9345"
token: "K10abababababababababababababababababababababababababababababababab::node:0123456789abcdef"
node-name: "node1"
END_OF_CONFIGURATION
mv -f "$configuration.new" "$configuration"
# The agent writes it at each start, when a server has taken the token and signed for the kubelet.
joined=/var/lib/rancher/rke2/agent/kubelet.kubeconfig
rm -f "$joined"
# Its start waits for a server, without an end of its own.
systemctl --no-block restart rke2-agent.service
tries=0
until [ -s "$joined" ]; do
  tries=$((tries + 1))
  if [ "$tries" -gt 300 ]; then
    echo "rke2-agent did not join within 5 minutes: its journal says why" >&2
    exit 1
  fi
  sleep 1
done
echo "pawl: join: rke2 took this node"
