{%- comment -%}
Joins a Kubernetes cluster as a worker. The token goes into a file, not into kubeadm's arguments, which every user can read.
The file's version is the one that this kubeadm writes itself: old ones are removed from kubeadm after some years.
Values stand inside double quotes of YAML, in a here-document that the shell does not expand.

host: the node
session: the boot session
profile: the node's profile
endpoint: the API server, HOST:PORT
token: a bootstrap token
caCertHash: sha256:HEX of the cluster CA's public key
{%- endcomment -%}
#!/bin/sh
# Profile {{ profile }}, session {{ session }}.
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
    apiServerEndpoint: "{{ endpoint }}"
    token: "{{ token }}"
    caCertHashes:
      - "{{ caCertHash }}"
nodeRegistration:
  name: "{{ host }}"
END_OF_CONFIGURATION
# What it writes (the cluster's CA, the kubelet's settings) is read by others than root, too.
umask 022
kubeadm join --config "$configuration"
