#!/bin/sh
# Profile worker, session 6fkH0cTn3JvS.
set -eu
umask 077
command -v kubeadm >/dev/null || {
  echo "this image has no kubeadm: use an image that has it, or another join" >&2
  exit 1
}
version=$(kubeadm config print join-defaults | sed -n 's/^apiVersion: //p' | head -n 1)
mkdir -p /run/pawl
configuration=$(mktemp /run/pawl/kubeadm.XXXXXX)
trap 'rm -f "$configuration"' EXIT
trap 'exit 143' HUP INT TERM
echo "apiVersion: $version" >"$configuration"
cat >>"$configuration" <<'END_OF_CONFIGURATION'
kind: JoinConfiguration
discovery:
  bootstrapToken:
    apiServerEndpoint: "k8s.example.com:6443"
    token: "abcdef.0123456789abcdef"
    caCertHashes:
      - "sha256:abababababababababababababababababababababababababababababababab"
nodeRegistration:
  name: "node1"
END_OF_CONFIGURATION
# What it writes (the cluster's CA, the kubelet's settings) is read by others than root, too.
umask 022
kubeadm join --config "$configuration"
