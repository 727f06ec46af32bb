#!/bin/sh
# shellcheck shell=dash
# pawl-identity: the identity documents of this node (docs/identity.md). Needs openssl and curl, and no more than a small shell.
#
#   pawl-identity register BASE CA_FILE HEADERS_FILE   once in a boot, in stage 3: makes the key and registers it. HEADERS_FILE
#                                                      has the line "Authorization: Bearer REPORT_TOKEN". FOLDER/granted has
#                                                      the audiences then that documents may be for, one a line
#   pawl-identity fetch AUDIENCE...                    gets a document for each, in FOLDER/AUDIENCE.jwt (: / ~ are _ there)
#   pawl-identity keep                                 renews what was fetched, in time, until the server refuses all of it
#   pawl-identity print AUDIENCE                       the document
#
# PAWL_IDENTITY_DIR  FOLDER, root's alone: /run/pawl-identity, which is memory
# PAWL_IDENTITY_KEY  p256 (the default) or ed25519
#
# The key never leaves this machine. What may be lost on the way is asked again; a refusal (403) is final. Exit: 0 done,
# 1 it did not work, 2 wrong usage, 3 the server refused. Several may run at once, and any may be killed: what FOLDER has is whole.
set -u
umask 077

DIR=${PAWL_IDENTITY_DIR:-/run/pawl-identity}
KEY_TYPE=${PAWL_IDENTITY_KEY:-p256}
# So long it is tried again while the server is away.
RETRY_SECONDS=${PAWL_IDENTITY_RETRY_SECONDS:-1800}

say() { echo "pawl-identity: $*" >&2; }
stop() { say "error: $2"; exit "$1"; }
base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
now() { echo $(($(date +%s) + $(cat "$DIR/offset" 2>/dev/null || echo 0))); }

# What is not whole yet is in a folder of this run's own, and goes to its place as a whole. Sets WORK. What a killed one left goes.
open_work() {
  local left
  for left in "$DIR"/.run.*; do
    [ ! -d "$left" ] || kill -0 "${left##*.run.}" 2>/dev/null || rm -rf "$left"
  done
  WORK=$DIR/.run.$$
  rm -rf "$WORK"
  mkdir "$WORK" || exit 1
  trap 'rm -rf "$WORK"' EXIT
}

# --- the key -------------------------------------------------------------------------------------------------------

make_key() {
  [ ! -s "$DIR/key.pem" ] || return 0
  case $KEY_TYPE in
    p256) openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$WORK/key.pem" 2>"$WORK/error" ;;
    ed25519) openssl genpkey -algorithm ED25519 -out "$WORK/key.pem" 2>"$WORK/error" ;;
    *) stop 2 'PAWL_IDENTITY_KEY is p256 or ed25519' ;;
  esac || stop 1 "no key could be made: $(head -n 1 "$WORK/error")"
  # Of two that register at once the first one's is the key of both.
  ln "$WORK/key.pem" "$DIR/key.pem" 2>"$WORK/error" || [ -s "$DIR/key.pem" ] || stop 1 "no key could be kept: $(head -n 1 "$WORK/error")"
}

# Sets ALG and JWK. The end of a public key in DER is the point itself.
read_key() {
  openssl pkey -in "$DIR/key.pem" -pubout -outform DER >"$WORK/public.der" 2>"$WORK/error" ||
    stop 1 "the key cannot be read: $(head -n 1 "$WORK/error")"
  if [ "$(wc -c <"$WORK/public.der")" -eq 44 ]; then
    ALG=EdDSA
    JWK="{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"$(tail -c 32 "$WORK/public.der" | base64url)\"}"
  else
    ALG=ES256
    JWK="{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"$(tail -c 64 "$WORK/public.der" | head -c 32 | base64url)\",\"y\":\"$(tail -c 32 "$WORK/public.der" | base64url)\"}"
  fi
}

# sign FILE: the signature as JWS has it.
sign() {
  local r s
  if [ "$ALG" = EdDSA ]; then
    openssl pkeyutl -sign -rawin -inkey "$DIR/key.pem" -in "$1" | base64url
    return
  fi
  # For ECDSA openssl writes a list of two integers; JWS wants their 64 bytes (RFC 7518 section 3.4).
  openssl dgst -sha256 -sign "$DIR/key.pem" -out "$WORK/signature.der" "$1" || return 1
  # shellcheck disable=SC2046  # two words are wanted
  set -- $(openssl asn1parse -inform DER -in "$WORK/signature.der" | sed -n 's/.*INTEGER *://p')
  r=$1 s=$2
  while [ ${#r} -lt 64 ]; do r=0$r; done
  while [ ${#s} -lt 64 ]; do s=0$s; done
  write_hex "$r$s" | base64url
}

write_hex() {
  local hex=$1 byte escaped=
  while [ -n "$hex" ]; do
    byte=${hex%"${hex#??}"}
    hex=${hex#??}
    byte=$((0x$byte))
    escaped="$escaped\\0$((byte / 64))$((byte / 8 % 8))$((byte % 8))"
  done
  printf '%b' "$escaped"
}

# write_proof URL [ATH]: a proof of possession for one request (RFC 9449) as a header, in a file: nothing of it is in an argv.
write_proof() {
  local head body ath=
  [ -z "${2-}" ] || ath=",\"ath\":\"$2\""
  head=$(printf '{"typ":"dpop+jwt","alg":"%s","jwk":%s}' "$ALG" "$JWK" | base64url)
  body=$(printf '{"htm":"POST","htu":"%s","iat":%s,"jti":"%s"%s}' "$1" "$(now)" "$(openssl rand -hex 16)" "$ath" | base64url)
  printf '%s.%s' "$head" "$body" >"$WORK/signed"
  printf 'DPoP: %s.%s.%s\n' "$head" "$body" "$(sign "$WORK/signed")" >"$WORK/proof"
}

# --- the server ----------------------------------------------------------------------------------------------------

# ask URL ATH HEADERS_FILE|'' [curl options]: one request with a proof of its own, until there is an answer. Its body is in $WORK/answer.
ask() {
  local url=$1 ath=$2 headers=$3 status start wait=1 told=
  shift 3
  start=$(date +%s)
  while :; do
    write_proof "$url" "$ath"
    [ -z "$headers" ] || cat "$headers" >>"$WORK/proof"
    status=$(curl -q --silent --show-error --proto '=https' --tlsv1.2 --cacert "$DIR/ca.crt" --connect-timeout 15 --max-time 60 \
      --max-filesize 65536 -D "$WORK/headers" -o "$WORK/answer" -w '%{http_code}' -X POST -H "@$WORK/proof" "$@" "$url" 2>"$WORK/error") || status=000
    rm -f "$WORK/proof"
    case $status in
      200) return 0 ;;
      # Where the clocks differ that is why, maybe: once more, by the server's.
      403 | 400)
        if [ -n "$told" ] || ! follow_clock; then stop 3 "the server refused ($status); it has the cause: pawl event list"; fi
        told=yes
        continue
        ;;
      408 | 429 | 5?? | 000) ;;
      *) stop 1 "the server answered with HTTP $status" ;;
    esac
    [ $(($(date +%s) - start)) -lt "$RETRY_SECONDS" ] || stop 1 "no answer: HTTP $status $(tail -n 1 "$WORK/error")"
    say "no answer yet (HTTP $status $(tail -n 1 "$WORK/error")): trying again in $wait s"
    sleep "$wait"
    wait=$((wait * 2))
    [ "$wait" -le 30 ] || wait=30
  done
}

# Takes the server's time from its answer, where ours is another by 20 s or more; fails where it is not.
follow_clock() {
  local line theirs ours difference
  line=$(sed -n 's/^[Dd]ate: [A-Z][a-z]*, \([0-9]* [A-Z][a-z]* [0-9]* [0-9:]*\) GMT.*/\1/p' "$WORK/headers" | tail -n 1)
  [ -n "$line" ] || return 1
  # shellcheck disable=SC2086  # its words are wanted
  theirs=$(epoch_of ${line}) || return 1
  ours=$(date +%s)
  difference=$((theirs - $(now)))
  [ "$difference" -ge 20 ] || [ "$difference" -le -20 ] || return 1
  say "the clock differs from the server's by $((theirs - ours)) s: following it"
  echo $((theirs - ours)) >"$WORK/offset" && mv "$WORK/offset" "$DIR/offset"
}

# epoch_of DAY MONTH YEAR HH:MM:SS: not every date(1) reads what HTTP writes.
epoch_of() {
  local d=${1#0} y=$3 m h min s
  case $2 in
    Mar) m=0 ;; Apr) m=1 ;; May) m=2 ;; Jun) m=3 ;; Jul) m=4 ;; Aug) m=5 ;; Sep) m=6 ;; Oct) m=7 ;; Nov) m=8 ;; Dec) m=9 ;;
    Jan) m=10 y=$((y - 1)) ;; Feb) m=11 y=$((y - 1)) ;; *) return 1 ;;
  esac
  h=${4%%:*} s=${4##*:} min=${4#*:} min=${min%:*}
  echo $((((y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + d - 719469) * 24 + ${h#0}) * 3600 + ${min#0} * 60 + ${s#0}))
}

# --- commands ------------------------------------------------------------------------------------------------------

register() {
  local ath
  [ $# -eq 3 ] || stop 2 'usage: pawl-identity register BASE CA_FILE HEADERS_FILE'
  case $1 in https://*) ;; *) stop 2 "BASE is https://HOST[:PORT]/v1/boot/NODE" ;; esac
  mkdir -p "$DIR" || exit 1
  chmod 700 "$DIR"
  open_work
  cat "$2" >"$WORK/ca.crt" || exit 1
  printf '%s\n' "$1" >"$WORK/base"
  mv "$WORK/ca.crt" "$WORK/base" "$DIR/"
  rm -rf "$DIR/audiences" "$DIR/granted" "$DIR/offset"
  make_key
  read_key
  # RFC 9449 section 4.2: the proof is for the token that comes with it.
  ath=$(sed -n 's/^Authorization: Bearer //p' "$3" | tr -d '\r\n' | openssl dgst -sha256 -binary | base64url)
  ask "$1/identity/key" "$ath" "$3" --data-binary '' -H 'Content-Type:'
  # As the profile is now: it may be another one than at the beginning of this boot.
  sed -n 's/.*"audiences":\[\([^]]*\)\].*/\1/p' "$WORK/answer" | tr ',' '\n' |
    sed -n 's|^"\([A-Za-z0-9][A-Za-z0-9:/._~-]*\)"$|\1|p' >"$WORK/granted"
  mv "$WORK/granted" "$DIR/granted"
  say 'the key is registered'
}

# fetch AUDIENCE...: sets RENEW, the seconds after which the first of them must be renewed.
fetch() {
  local audience seconds base
  [ $# -gt 0 ] || stop 2 'usage: pawl-identity fetch AUDIENCE...'
  base=$(cat "$DIR/base")
  read_key
  RENEW=86400
  for audience in "$@"; do
    ask "$base/identity" '' '' --data-urlencode "audience=$audience"
    sed -n 's/^{"token":"\([A-Za-z0-9._-]*\)".*/\1/p' "$WORK/answer" | tr -d '\n' >"$WORK/document"
    seconds=$(sed -n 's/.*"renewInSeconds":\([0-9]*\)}.*/\1/p' "$WORK/answer")
    if [ ! -s "$WORK/document" ] || [ -z "$seconds" ]; then stop 1 'the answer is not one that this pawl-identity can read'; fi
    # Who reads it has the old one or the new one, and never half of one.
    mv "$WORK/document" "$DIR/$(file_of "$audience").jwt"
    # What is to be renewed: a file for each, so that no two write the same one.
    mkdir -p "$DIR/audiences"
    echo "$audience" >"$WORK/audience"
    mv "$WORK/audience" "$DIR/audiences/$(file_of "$audience")"
    [ "$seconds" -ge "$RENEW" ] || RENEW=$seconds
  done
}

file_of() { printf %s "$1" | tr ':/~' '___'; }

# Renews for as long as the server gives one of them. One that it refuses has been taken out of the profile; all of them: this boot is not
# the node's last one any more, or an operator took the node out of service.
keep() {
  local file audience seconds least refused going
  [ -n "$(ls "$DIR/audiences" 2>/dev/null)" ] || stop 1 'there is nothing to renew: fetch comes first'
  while :; do
    least=86400 refused='' going=''
    : >"$WORK/begun"
    # Each on its own: what ends one of them, in a subshell, ends no other.
    for file in "$DIR/audiences"/*; do
      audience=$(cat "$file" 2>/dev/null) || continue
      seconds=$(fetch "$audience" && echo "$RENEW")
      case $? in
        0) ;;
        3)
          # Not where a fetch beside this one was given it meanwhile.
          [ "$file" -nt "$WORK/begun" ] || { refused="$refused $audience"; continue; }
          seconds=60
          ;;
        *) seconds=60 ;;
      esac
      going=yes
      [ "$seconds" -ge "$least" ] || least=$seconds
    done
    [ -n "$going" ] || stop 3 'the server refused all of them'
    for audience in $refused; do
      say "no documents for $audience any more"
      rm -f "$DIR/audiences/$(file_of "$audience")"
    done
    sleep "$least"
  done
}

case ${1-} in
  register) shift; register "$@" ;;
  fetch | keep)
    command=$1
    shift
    if [ ! -s "$DIR/key.pem" ] || [ ! -s "$DIR/base" ]; then stop 1 'no key is registered: it is made in stage 3'; fi
    open_work
    "$command" "$@"
    ;;
  print) [ $# -eq 2 ] || stop 2 'usage: pawl-identity print AUDIENCE'; cat "$DIR/$(file_of "$2").jwt" ;;
  *) sed -n '3,/^set/p' "$0" | sed '/^set/d; s/^# \{0,1\}//' >&2; exit 2 ;;
esac
