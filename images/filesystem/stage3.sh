# shellcheck shell=dash
# What every full system does at its start, after its own preparations. Sourced by the agents, never run.
# firewall -> redeem stage 3 -> configuration -> new secret to the boot medium -> identity -> redeem join -> run the join script -> report ->
# forget the secrets -> renew the identity.
# Needs curl, jq, nft, ip, nc, su and the user nobody.

JOIN_TIMEOUT_SECONDS=1800

# shellcheck source-path=SCRIPTDIR source=secret.sh
. /usr/lib/pawl/secret.sh

# A file with this system's public SSH host keys, one a line: they go to the server with the report of success.
SSH_HOST_KEYS=

join_cluster() {
  find_boot_listener
  protect_boot_listener
  redeem stage3 "$TOKEN_STAGE3" "$RUN/stage3.json"
  say 'redeemed'
  read_stage3
  say "configuration: $CONFIGURATION"
  rotate_secret
  get_identity
  redeem join "$TOKEN_JOIN" "$RUN/join.json"
  # shellcheck disable=SC2034  # read by say
  STAGE='join'
  run_join_script
  report_success
  forget_secrets
  keep_identity
  trap - EXIT
  echo 'pawl: ready'
}

# --- only root may reach the boot listener --------------------------------------------------------------------------

# This machine's address is part of its identity, and every local user and container has that address. So the boot listener is
# closed for all of them before the first token is used.
protect_boot_listener() {
  modprobe -a -q nf_tables nft_reject_inet
  # One transaction: the old rules go when the new ones are there, never before.
  boot_listener_rules >"$RUN/boot-listener.nft"
  nft -f "$RUN/boot-listener.nft" 2>"$RUN/nft.error" ||
    fail "the boot listener cannot be closed for other users: $(head -n 1 "$RUN/nft.error")" 'does this kernel have nf_tables and nft_reject_inet?'
  check_boot_listener
}

boot_listener_rules() {
  local listener
  echo 'table inet pawl'
  echo 'delete table inet pawl'
  echo 'table inet pawl {'
  echo '  chain closed { meta l4proto tcp reject with tcp reset; drop; }'
  # Processes of this machine, but for root's.
  echo '  chain output { type filter hook output priority 0; policy accept;'
  for listener in $LISTENERS; do listener_rule "$listener" 'meta skuid != 0 goto closed'; done
  echo '  }'
  # Containers and guests, whose packets this machine only passes on.
  echo '  chain forward { type filter hook forward priority 0; policy accept;'
  for listener in $LISTENERS; do listener_rule "$listener" 'goto closed'; done
  echo '  }'
  echo '}'
}

# listener_rule URL REST: where the URL has a name there is no address, and the port counts alone.
listener_rule() {
  parse_listener "$1"
  case $LISTENER_ADDRESS in
    '') echo "    tcp dport $LISTENER_PORT $2" ;;
    *:*) echo "    ip6 daddr $LISTENER_ADDRESS tcp dport $LISTENER_PORT $2" ;;
    *) echo "    ip daddr $LISTENER_ADDRESS tcp dport $LISTENER_PORT $2" ;;
  esac
}

# parse_listener URL: sets LISTENER_PORT, and LISTENER_ADDRESS, which is empty where the URL has a name.
parse_listener() {
  local authority host port=443
  authority=${1#https://}
  case $authority in
    \[*\]:*) host=${authority%\]:*} host=${host#\[} port=${authority##*\]:} ;;
    \[*\]) host=${authority#\[} host=${host%\]} ;;
    *:*) host=${authority%:*} port=${authority##*:} ;;
    *) host=$authority ;;
  esac
  LISTENER_PORT=$port
  case $host in
    *:*) LISTENER_ADDRESS=$host ;;
    *[!0-9.]*) LISTENER_ADDRESS='' ;;
    *) LISTENER_ADDRESS=$host ;;
  esac
}

# Sets LISTENERS to the one that this machine came by: https://HOST[:PORT].
find_boot_listener() {
  local authority=${BASE#https://}
  LISTENERS=https://${authority%%/*}
}

# Sets CONFIGURATION, TOKEN_JOIN and AUDIENCES. While a root is rotated there are two boot listeners, and the answer names both: the firewall is
# made anew then, before anything else.
read_stage3() {
  local values before="$LISTENERS"
  values=$(jq -er --arg known "$LISTENERS" "$JQ_WORD"'
    def is_listener: test("^https://([A-Za-z0-9.-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?$");
    "CONFIGURATION=\(.configuration | tojson | word) TOKEN_JOIN=\(.tokens.join | word)",
    "AUDIENCES=\([(.identity.audiences // [])[] | select(test("^[A-Za-z0-9][A-Za-z0-9:/._~-]{0,254}$"))] | join(" ") | word)",
    "LISTENERS=\([$known, (.bootListeners // [])[] | select(is_listener)] | unique | join(" ") | word)"
  ' "$RUN/stage3.json" 2>/dev/null) || fail 'the answer of stage 3 is not one this image can read' 'use images as new as the server'
  eval "$values"
  [ "$LISTENERS" = "$before" ] || protect_boot_listener
}

# The proof, at each boot: a process that is not root really cannot connect. It tells who it is, so that a check that could not
# run is not taken for a closed door.
check_boot_listener() {
  local listener seen tried=
  for listener in $LISTENERS; do
    parse_listener "$listener"
    [ -n "$LISTENER_ADDRESS" ] || continue
    seen=$(su -s /bin/sh nobody -c "id -u; command -v nc >/dev/null || exit; nc -w 5 $LISTENER_ADDRESS $LISTENER_PORT </dev/null >/dev/null 2>&1 && echo open || echo closed" | tr '\n' ' ')
    case $seen in
      '65534 closed ') tried=yes ;;
      *open*) fail "a user other than root can reach the boot listener at $LISTENER_ADDRESS" 'the firewall of this image does not work: do not use it' ;;
      *) fail "it cannot be tried whether the boot listener is closed for other users: $seen" 'does this system have the user nobody?' ;;
    esac
  done
  # With a name there is no address to try: the port is closed.
  [ -z "$tried" ] || say 'unprivileged access to the boot listener is blocked'
}

# --- identity -------------------------------------------------------------------------------------------------------

# For whom this node was to get identity documents when its boot began; empty: for nobody. Then for whom it has them.
AUDIENCES=
IDENTITY=${PAWL_IDENTITY_DIR:-/run/pawl-identity}

# Before the join, whose script may need them: /run/pawl-identity/AUDIENCE.jwt. The profile may have been changed since this boot began: what it
# does not give any more is no fault of the node, which goes on without.
get_identity() {
  local audience code=0 got=''
  [ -n "$AUDIENCES" ] || return 0
  command -v pawl-identity >/dev/null || fail 'the profile gives its nodes an identity, and this image has no pawl-identity' 'take it from images/lib/identity.sh'
  pawl-identity register "$BASE" "$RUN/ca.crt" "$RUN/report.headers" 2>"$RUN/identity.log" || code=$?
  case $code in
    0) ;;
    3)
      say 'going on without an identity: the server refused it, and has the cause: pawl event list'
      AUDIENCES=
      return 0
      ;;
    *) fail "no identity: $(tail -n 1 "$RUN/identity.log")" 'the server has the cause: pawl event list' ;;
  esac
  for audience in $AUDIENCES; do
    grep -qxF "$audience" "$IDENTITY/granted" || say "going on without identity documents for $audience: the profile does not name it any more"
  done
  # shellcheck disable=SC2013  # one a line, without spaces
  for audience in $(cat "$IDENTITY/granted"); do
    code=0
    pawl-identity fetch "$audience" 2>"$RUN/identity.log" || code=$?
    case $code in
      0) got="$got $audience" ;;
      3) say "going on without identity documents for $audience: the server refused it, and has the cause: pawl event list" ;;
      *) fail "no identity document: $(tail -n 1 "$RUN/identity.log")" 'the server has the cause: pawl event list' ;;
    esac
  done
  AUDIENCES=${got# }
  [ -z "$AUDIENCES" ] || say "identity documents for $AUDIENCES"
}

# They are renewed for as long as this system runs, by a unit where there is systemd.
keep_identity() {
  [ -n "$AUDIENCES" ] || return 0
  if command -v systemctl >/dev/null; then
    systemctl start --no-block pawl-identity.service
  else
    setsid pawl-identity keep </dev/null >/dev/null 2>&1 &
  fi
}

# --- join -----------------------------------------------------------------------------------------------------------

# Its output goes to the console as it comes; the last line is what a report can say.
run_join_script() {
  local code values began KIND SCRIPT
  values=$(jq -er "$JQ_WORD"'"KIND=\(.kind | word) SCRIPT=\(.script | word)"' "$RUN/join.json" 2>/dev/null) ||
    fail 'the answer to join is not one this image can read' 'use images as new as the server'
  eval "$values"
  say "redeemed: $KIND"
  printf '%s\n' "$SCRIPT" >"$RUN/join.sh"
  chmod 700 "$RUN/join.sh"
  read_centiseconds
  began=$CENTISECONDS
  {
    umask 022
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
      timeout -k 10 "$JOIN_TIMEOUT_SECONDS" "$RUN/join.sh" </dev/null 2>&1
    echo $? >"$RUN/join.code"
  } | tee "$RUN/join.log"
  code=$(cat "$RUN/join.code")
  read_centiseconds
  note_span joined $((CENTISECONDS - began)) - "the join script, exit $code"
  tail -n 200 "$RUN/join.log" >>"$CONSOLE"
  [ "$code" = 0 ] || fail "join script exited $code: $(tail -n 1 "$RUN/join.log")" 'its output is above'
  say 'script done'
}

send_success() {
  [ -n "$SSH_HOST_KEYS" ] || [ -s "$RUN/wireguard.pub" ] || { send_report "$RUN/message" false "$RUN/success.headers"; return; }
  touch "$SPANS"
  set --
  [ -z "$SSH_HOST_KEYS" ] || set -- --data-urlencode "ssh_host_keys@$SSH_HOST_KEYS"
  # Of a tunnel that the join script has set up.
  [ ! -s "$RUN/wireguard.pub" ] || set -- "$@" --data-urlencode "wireguard_public_key@$RUN/wireguard.pub"
  request "$RUN/success.headers" /dev/null "$BASE/report" --max-time 20 --data-urlencode "message@$RUN/message" \
    "$@" --data-urlencode "spans@$SPANS"
  [ "$HTTP_STATUS" = 204 ] || [ "$HTTP_STATUS" = 200 ]
}

# A success that does not arrive would leave this node "joining" for ever: repeated with the same key until it does.
report_success() {
  local start wait=1
  start=$(uptime_seconds)
  write_headers "$RUN/success.headers" "$TOKEN_REPORT"
  echo "Idempotency-Key: $(new_idempotency_key)" >>"$RUN/success.headers"
  printf success >"$RUN/message"
  while ! send_success; do
    [ "$HTTP_STATUS" != 403 ] || fail 'the server refused the report of success (403)' \
      'this boot session was ended or replaced by a newer one; the server has the cause: pawl event list'
    [ $(($(uptime_seconds) - start)) -lt "$RETRY_SECONDS" ] || fail "the report of success does not arrive: $REQUEST_ERROR"
    say "the report of success did not arrive ($REQUEST_ERROR)"
    pause "$wait"
    wait=$NEXT_WAIT
  done
}

# They are spent by now. They go all the same: what is not there cannot be misread as a way in.
forget_secrets() {
  unset TOKEN_STAGE2 TOKEN_STAGE3 TOKEN_JOIN TOKEN_REPORT TOKEN_FILESYSTEM
  rm -f "$HANDOVER" "$CERTIFICATE" "$RUN"/*.json "$RUN"/*.headers "$RUN/join.sh" "$RUN/message" "$SPANS" "$CONSOLE"
}
