{%- comment -%}
Joins a Kubernetes cluster as a worker. The token goes into a file, not into kubeadm's arguments, which every user can read.

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
configuration=$(mktemp /run/pawl/kubeadm.XXXXXX)
trap 'rm -f "$configuration"' EXIT
cat >"$configuration" <<'END_OF_CONFIGURATION'
apiVersion: kubeadm.k8s.io/v1beta3
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
kubeadm join --config "$configuration"
