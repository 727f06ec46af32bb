#!/bin/sh
# A stand-in for kubeadm, for tests in which there is none. It is not one. What it does as the real one does: the discovery by a
# bootstrap token (the CA by its hash, cluster-info by its signature), and the kubelet's request for a certificate, with that token. No
# kubelet comes behind it: nothing has joined when it is done.
#
#   kubeadm config print join-defaults
#   kubeadm join --config FILE        a JoinConfiguration, as our join script writes it
set -eu
modes=$(umask)
umask 077
cluster_info=/api/v1/namespaces/kube-public/configmaps/cluster-info
requests=/apis/certificates.k8s.io/v1/certificatesigningrequests

main() {
  case "$*" in
    'config print join-defaults') echo 'apiVersion: kubeadm.k8s.io/v1beta2' ;;
    'join --config '*) join "$3" ;;
    *) stop "the stand-in knows no \"$*\"" ;;
  esac
}

stop() {
  echo "error execution phase preflight: $1" >&2
  exit 1
}

join() {
  server=$(setting "$1" apiServerEndpoint) token=$(setting "$1" token) name=$(setting "$1" name)
  hash=$(sed -n 's/^ *- "\(sha256:[0-9a-f]*\)"$/\1/p' "$1")
  seconds=$(setting "$1" timeout | tr -d s)
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  cd "$work"
  echo "[preflight] Running pre-flight checks: the stand-in has none. What it would write has umask $modes"
  wait_for_signature "${seconds:-300}"
  check_signature
  check_ca
  # Again, of who is known by now to be the cluster.
  [ "$(ask again.json "$cluster_info" --cacert ca.crt)" = 200 ] || stop 'the cluster does not answer by its own CA'
  jq -j .data.kubeconfig again.json | cmp -s - kubeconfig || stop 'cluster-info is another by the CA of the cluster'
  echo '[discovery] The cluster is the one of the CA hash, and knows the token'
  request_certificate
  echo '[kubelet-start] The certificate of the kubelet is asked for. The stand-in goes no further'
}

# setting FILE NAME
setting() { sed -n "s/^ *$2: \"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" "$1" | head -n 1; }

# ask ANSWER PATH OPTION...: the status.
ask() {
  answer=$1 path=$2
  shift 2
  curl -sS --max-time 30 -o "$answer" -w '%{http_code}' "$@" "https://$server$path"
}

# The cluster signs cluster-info with each token some time after that was made.
wait_for_signature() {
  left=$1
  while :; do
    [ "$(ask info.json "$cluster_info" --insecure)" = 200 ] || stop "$server does not say what cluster it is"
    jq -j .data.kubeconfig info.json >kubeconfig
    signature=$(jq -r --arg id "${token%.*}" '.data["jws-kubeconfig-" + $id] // empty' info.json)
    [ -z "$signature" ] || return 0
    left=$((left - 1))
    [ "$left" -gt 0 ] || stop "cluster-info is not signed with the token \"${token%.*}\""
    sleep 1
  done
}

# HS256 over what is left out of it (RFC 7515, appendix F).
check_signature() {
  header=${signature%%.*}
  expected=$(printf '%s.%s' "$header" "$(base64url <kubeconfig)" |
    openssl dgst -sha256 -mac HMAC -macopt "key:${token#*.}" -binary | base64url)
  [ "$signature" = "$header..$expected" ] || stop 'the signature of cluster-info is not by this token'
}

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d =; }

# SHA-256 of the SubjectPublicKeyInfo.
check_ca() {
  sed -n 's/^ *certificate-authority-data: //p' kubeconfig | tr -d '"' | openssl base64 -d -A >ca.crt
  found=$(openssl x509 -in ca.crt -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -r | cut -d' ' -f1)
  [ "$hash" = "sha256:$found" ] || stop 'the CA of the cluster has none of the public keys that were given'
}

# As a kubelet does; its name may be taken by one of a boot before.
request_certificate() {
  printf '[req]\ndistinguished_name = subject\n[subject]\n' >request.conf
  openssl req -config request.conf -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout kubelet.key -out kubelet.csr \
    -subj "/O=system:nodes/CN=system:node:$name" 2>openssl.log || stop "openssl: $(tail -n 1 openssl.log)"
  jq -n --arg name "node-csr-$(openssl rand -hex 8)" --rawfile request kubelet.csr '{
    apiVersion: "certificates.k8s.io/v1", kind: "CertificateSigningRequest", metadata: { name: $name },
    spec: { request: ($request | @base64), signerName: "kubernetes.io/kube-apiserver-client-kubelet",
      usages: ["digital signature", "key encipherment", "client auth"] } }' >request.json
  printf 'Authorization: Bearer %s\nContent-Type: application/json\n' "$token" >headers
  status=$(ask answer.json "$requests" --cacert ca.crt -H @headers --data-binary @request.json)
  [ "$status" = 201 ] || stop "the request for a certificate was answered $status: $(jq -r '.message // empty' answer.json)"
}

main "$@"
