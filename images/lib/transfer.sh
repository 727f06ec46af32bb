# shellcheck shell=dash
# How the agents talk to the server: requests, redemptions, reports, downloads. Sourced by agent.sh, whose rules hold here too.

# --- requests ------------------------------------------------------------------------------------------------------

# request HEADERS OUT URL [curl options]: asks the server.
request() {
  local headers=$1 out=$2 url=$3
  shift 3
  run_curl "$RUN/curl.conf" -H "@$headers" -o "$out" "$@" "$url"
}

# Half kibibytes that curl may write at most; empty: as many as come. Its own limit does not hold for an answer that does not say
# how long it is (before curl 8.4).
MOST_BLOCKS=

# run_curl CONFIG [curl options]: sets HTTP_STATUS (000: no whole answer), REQUEST_ERROR, a line in words, RETRY_AFTER in
# seconds, 0 when the server did not ask for a pause, and REDIRECT_URL, which nothing may show.
run_curl() {
  local config=$1 answer
  shift
  if answer=$([ -z "$MOST_BLOCKS" ] || ulimit -f "$MOST_BLOCKS"; curl -q -K "$config" -w '%{http_code} %header{retry-after} %{redirect_url}' "$@" 2>"$RUN/curl.error"); then
    HTTP_STATUS=${answer%% *}
    REQUEST_ERROR="HTTP $HTTP_STATUS"
  else
    HTTP_STATUS=${answer%% *}
    REQUEST_ERROR=$(tail -n 1 "$RUN/curl.error")
    # A status whose body was cut short is not an answer.
    case $HTTP_STATUS in 4?? | 5??) ;; *) HTTP_STATUS=000 ;; esac
  fi
  REDIRECT_URL=${answer##* }
  RETRY_AFTER=${answer#* }
  RETRY_AFTER=${RETRY_AFTER%% *}
  case $RETRY_AFTER in '' | *[!0-9]* | ????*) RETRY_AFTER=0 ;; esac
}

# pause WAIT: sleeps that long, or as long as the server asked for, and up to half as long again: machines that were sent away or
# cut off together do not come back together. Never shorter. Sets NEXT_WAIT, twice as long, 30 s at most.
pause() {
  local seconds=$1
  [ "$RETRY_AFTER" -le "$seconds" ] || seconds=$RETRY_AFTER
  spread $(((seconds + 1) / 2))
  seconds=$((seconds + SPREAD))
  say "trying again in $seconds s"
  sleep "$seconds"
  NEXT_WAIT=$(($1 * 2))
  [ "$NEXT_WAIT" -le 30 ] || NEXT_WAIT=30
}

# spread SECONDS: sets SPREAD, a random number from 0 to that. The kernel makes it: no program is started.
spread() {
  local uuid
  read -r uuid </proc/sys/kernel/random/uuid
  SPREAD=$((0x${uuid%%-*} % ($1 + 1)))
}

# redeem NAME TOKEN OUT: opens a stage. The key stays the same over all tries, so a lost answer is given again and is not a
# second use.
redeem() {
  local name=$1 out=$3 headers=$RUN/$1.headers start wait=1
  write_headers "$headers" "$2"
  echo "Idempotency-Key: $(new_idempotency_key)" >>"$headers"
  start=$(uptime_seconds)
  while :; do
    # What was done since the last time goes along; else an empty body: no form, hence no Content-Type.
    if [ -s "$SPANS" ]; then
      request "$headers" "$out" "$BASE/$name" --max-time 60 --data-urlencode "spans@$SPANS"
    else
      request "$headers" "$out" "$BASE/$name" --max-time 60 --data-binary '' -H 'Content-Type:'
    fi
    case $HTTP_STATUS in
      200)
        rm -f "$headers" "$SPANS"
        return 0
        ;;
      403) fail "the server refused to open $name (403)" \
        'the token was used or is too old, the certificate was revoked or has expired, or this node was disabled; the server has the cause: pawl event list' ;;
      408 | 429 | 5?? | 000) ;;
      *) fail "the server answered $name with $REQUEST_ERROR" ;;
    esac
    [ $(($(uptime_seconds) - start)) -lt "$RETRY_SECONDS" ] || fail "no answer to $name: $REQUEST_ERROR"
    say "no answer to $name ($REQUEST_ERROR)$(server_words "$out")"
    pause "$wait"
    wait=$NEXT_WAIT
  done
}

# server_words FILE: the server's own line about a 503: a join may wait for its cluster, and whoever stands at the console should know.
server_words() {
  [ "$HTTP_STATUS" = 503 ] && [ -s "$1" ] || return 0
  printf ': %s' "$(head -n 1 "$1" | head -c 300 | tr -c '\040-\176' ' ')"
}

# send_report MESSAGE_FILE FINAL HEADERS: one try; 0 when the server took it.
send_report() {
  touch "$SPANS"
  request "$3" /dev/null "$BASE/report" --max-time 20 --data-urlencode "message@$1" --data-urlencode "final=$2" --data-urlencode "spans@$SPANS"
  [ "$HTTP_STATUS" = 204 ] || [ "$HTTP_STATUS" = 200 ] || return 1
  rm -f "$SPANS"
}

# report_error MESSAGE [final]: tries a few times, and never stops the caller.
report_error() {
  local tries=0 final=false
  [ "${2-}" != final ] || final=true
  if [ -z "$NETWORK_IS_UP" ] || [ ! -s "$RUN/report.headers" ]; then
    say 'this could not be reported: no network yet'
    return 0
  fi
  # The server takes 2048 bytes of printable text.
  printf 'error: %s: %s' "$STAGE" "$1" | tr -c '\040-\176' ' ' | cut -c 1-1900 | tr -d '\n' >"$RUN/message"
  while ! send_report "$RUN/message" "$final" "$RUN/report.headers"; do
    tries=$((tries + 1))
    if [ "$tries" -ge 3 ] || [ "$HTTP_STATUS" = 403 ]; then
      say "this could not be reported: $REQUEST_ERROR"
      return 0
    fi
    # Nobody waits long for words.
    [ "$RETRY_AFTER" -le 30 ] || RETRY_AFTER=30
    pause 2
  done
  say 'reported to the server'
}

# send_console: the last lines of the console, behind the report of a failure: one try, for which nobody waits long. The tokens of this boot
# are taken out of them; the server takes out what looks like one.
send_console() {
  local token
  [ -n "$NETWORK_IS_UP" ] && [ -s "$RUN/report.headers" ] && [ -s "$CONSOLE" ] || return 0
  for token in "${TOKEN_STAGE2-}" "${TOKEN_STAGE3-}" "${TOKEN_JOIN-}" "${TOKEN_REPORT-}" "${TOKEN_FILESYSTEM-}" "${CAPABILITY-}"; do
    # Base64url has nothing that sed would read otherwise. Its program is in a file: a token is never in argv.
    case $token in *[!A-Za-z0-9_-]* | '') continue ;; esac
    printf 's/%s/***/g\n' "$token"
  done >"$RUN/console.sed"
  # In this order: a token that is cut in two looks like none.
  sed -f "$RUN/console.sed" "$CONSOLE" | tail -c 65536 >"$RUN/console.sent"
  rm -f "$RUN/console.sed"
  request "$RUN/report.headers" /dev/null "$BASE/log?stage=$STAGE" --max-time 20 --data-binary "@$RUN/console.sent" -H 'Content-Type: text/plain'
  rm -f "$RUN/console.sent"
  case $HTTP_STATUS in 200 | 204) say 'the last lines of this console are on the server: pawl node logs' ;; esac
}

# --- downloads -----------------------------------------------------------------------------------------------------

# Where the server may send us for artifacts (read_handover), and whether it was in vain.
DOWNLOAD_ORIGIN=${DOWNLOAD_ORIGIN-}
DOWNLOAD_CA=${DOWNLOAD_CA-}
STORE_FAILED=
MIRROR_CA=${MIRROR_CA-}
MIRROR_FAILED=
# A cache has so long, and a second more for so many bytes: slower than that is no cache near here, and the session would run out.
MIRROR_SECONDS=60
MIRROR_RATE=262144

# download WHAT URL SHA256 SIZE HEADERS OUT [MIRROR]: from the mirror where there is one, else from the server: goes on where it was
# cut, and returns only when the bytes are the announced ones.
download() {
  local what=$1 url=$2 sha256=$3 size=$4 headers=$5 out=$6 actual damaged=0 since
  since=$(uptime_seconds)
  read_centiseconds
  local began=$CENTISECONDS
  say "$what: downloading $(mebibytes "$size") MiB"
  if [ -n "${7-}" ] && fetch_from_mirror "$what" "$7" "$sha256" "$size" "$out"; then
    read_centiseconds
    note_span downloaded $((CENTISECONDS - began)) "$size" "$what, from a cache, and verified"
    say "$what verified ($(mebibytes "$size") MiB in $(($(uptime_seconds) - since)) s, from a cache)"
    return 0
  fi
  while :; do
    fetch_bytes "$what" "$url" "$size" "$headers" "$out"
    read_centiseconds
    began=$CENTISECONDS
    actual=$(sha256sum "$out" | cut -d' ' -f1)
    if [ "$actual" = "$sha256" ]; then
      read_centiseconds
      note_span verified $((CENTISECONDS - began)) "$size" "$what"
      say "$what verified ($(mebibytes "$size") MiB in $(($(uptime_seconds) - since)) s)"
      return 0
    fi
    rm -f "$out"
    damaged=$((damaged + 1))
    say "$what: checksum mismatch: SHA-256 is $actual, announced is $sha256"
    [ "$damaged" -lt "$DAMAGED_LIMIT" ] || fail "$what: checksum mismatch in $damaged downloads: SHA-256 is $actual, announced is $sha256" \
      'the artifact was changed or damaged on its way: check it on the server'
    report_error "$what: checksum mismatch, downloading again"
  done
}

# fetch_from_mirror WHAT URL SHA256 SIZE OUT: 0 when OUT is what was announced. A cache near this machine that nobody trusts: it gets
# no token, and what it sends counts only with the right digest. Where it brings nothing or something else, the server is asked for
# the rest of this boot; what did come is gone on from there.
fetch_from_mirror() {
  local what=$1 url=$2 sha256=$3 size=$4 out=$5 have before origin actual left since
  case $url in
    *[!]A-Za-z0-9:/._~[-]*) return 1 ;;
    http://?* | https://?*) ;;
    *) return 1 ;;
  esac
  [ -z "$MIRROR_FAILED" ] || return 1
  origin=${url%/v1/artifacts/*}
  write_mirror_config "$url"
  have=$(size_of "$out")
  since=$(uptime_seconds)
  while [ "$have" -lt "$size" ]; do
    before=$have
    left=$((since + MIRROR_SECONDS + size / MIRROR_RATE - $(uptime_seconds)))
    if [ "$left" -le 0 ]; then
      say "$what: the cache $origin is too slow: the server is asked from now on"
      MIRROR_FAILED=yes
      return 1
    fi
    MOST_BLOCKS=$((size / 512 + 1))
    run_curl "$RUN/mirror.conf" -o "$out" --fail -C - --speed-limit 1000 --speed-time 30 --max-filesize "$size" --max-time "$left"
    MOST_BLOCKS=
    # For curl a redirect is no failure, and its words are in the file now. It is not followed.
    case $HTTP_STATUS in 3??) rm -f "$out" ;; esac
    have=$(size_of "$out")
    if [ "$have" -le "$before" ]; then
      say "$what: nothing came from the cache $origin ($REQUEST_ERROR): the server is asked from now on"
      MIRROR_FAILED=yes
      return 1
    fi
  done
  actual=$(sha256sum "$out" | cut -d' ' -f1)
  [ "$actual" != "$sha256" ] || return 0
  rm -f "$out"
  say "$what: ALTERED: what the cache $origin sent has the SHA-256 $actual, announced is $sha256: the server is asked from now on"
  report_error "$what: altered by the cache $origin: SHA-256 is $actual, announced is $sha256; asking the server"
  MIRROR_FAILED=yes
  return 1
}

# How curl asks a cache: its certificate leads to the site's CA, or to the one that the handover names.
write_mirror_config() {
  { cat "$RUN/ca.crt" && printf '%s\n' "$MIRROR_CA"; } >"$RUN/mirror-ca.crt"
  cat >"$RUN/mirror.conf" <<END
url = "$1"
cacert = "$RUN/mirror-ca.crt"
proto = "=${1%%:*}"
tlsv1.2
silent
show-error
connect-timeout = 10
END
}

# fetch_bytes WHAT URL SIZE HEADERS OUT: until OUT has all its bytes. Gives up only when no byte came for RETRY_SECONDS.
fetch_bytes() {
  local what=$1 url=$2 size=$3 headers=$4 out=$5 have wait=1 moved meter
  moved=$(uptime_seconds)
  have=$(size_of "$out")
  while [ "$have" -lt "$size" ]; do
    show_progress "$what" "$out" "$size" &
    meter=$!
    fetch_more "$what" "$url" "$size" "$headers" "$out"
    kill "$meter" 2>/dev/null
    wait "$meter" 2>/dev/null
    case $HTTP_STATUS in
      2?? | 000 | 408 | 429 | 5??) ;;
      # The server has fewer bytes than it announced: the digest will say so.
      416) return 0 ;;
      403) fail "the server refused the download of $what (403)" \
        'the capability is too old, or this session was ended; the server has the cause: pawl event list' ;;
      elsewhere) fail "$what: the server sends us elsewhere than to $DOWNLOAD_ORIGIN, which the handover names" ;;
      *) fail "the server answered the download of $what with HTTP $HTTP_STATUS" ;;
    esac
    if [ "$(size_of "$out")" -gt "$have" ]; then moved=$(uptime_seconds) wait=1; fi
    have=$(size_of "$out")
    [ "$have" -lt "$size" ] || return 0
    [ $(($(uptime_seconds) - moved)) -lt "$RETRY_SECONDS" ] || fail "the download of $what stopped: $REQUEST_ERROR"
    say "$what: cut at $((have * 100 / size))% ($REQUEST_ERROR)"
    pause "$wait"
    wait=$NEXT_WAIT
  done
}

# fetch_more WHAT URL SIZE HEADERS OUT: one try at what is missing of OUT: from the server, or from where it sends us.
fetch_more() {
  local what=$1 url=$2 size=$3 headers=$4 out=$5
  # Slower than 1 kB/s for 30 s is a dead connection: go on with a new one.
  set -- --fail -C - --speed-limit 1000 --speed-time 30 --max-filesize "$size"
  if [ -z "$DOWNLOAD_ORIGIN" ] || [ -n "$STORE_FAILED" ]; then
    request "$headers" "$out" "$url" "$@"
    return
  fi
  request "$headers" "$out" "$url" "$@" -H 'Pawl-Follows-Redirects: 1'
  [ "$HTTP_STATUS" != 307 ] || fetch_from_store "$what" "$out" "$@"
}

# fetch_from_store WHAT OUT [curl options]: REDIRECT_URL opens the bytes to whoever has it, so it goes into a file, like all
# secrets. Our own token does not go along. Only the origin that the handover names is asked: a URL is not believed just
# because it is in an answer. Where the store brings nothing, the server is asked for the rest of this boot.
fetch_from_store() {
  local what=$1 out=$2 before
  shift 2
  case $REDIRECT_URL in
    *[!]A-Za-z0-9:/?\&=%._~+[-]*) HTTP_STATUS=elsewhere ;;
    "$DOWNLOAD_ORIGIN"/*) ;;
    *) HTTP_STATUS=elsewhere ;;
  esac
  [ "$HTTP_STATUS" != elsewhere ] || return 0
  before=$(size_of "$out")
  write_store_config
  run_curl "$RUN/store.conf" -o "$out" "$@"
  rm -f "$RUN/store.conf"
  case $HTTP_STATUS in
    2??) return 0 ;;
    # For curl this is no failure, and its words are in the file now.
    3??) rm -f "$out" ;;
    # Only so far: what another server answers is not what ours says.
    *) [ "$(size_of "$out")" = "$before" ] || before= ;;
  esac
  HTTP_STATUS=000
  REQUEST_ERROR="$DOWNLOAD_ORIGIN: $REQUEST_ERROR"
  [ -n "$before" ] || return 0
  say "$what: nothing came from $DOWNLOAD_ORIGIN: the server is asked from now on"
  STORE_FAILED=yes
}

# How curl asks the object store: with the CA that the handover names for it, or else the site's.
write_store_config() {
  local ca=$RUN/ca.crt
  if [ -n "$DOWNLOAD_CA" ]; then
    ca=$RUN/store-ca.crt
    printf '%s\n' "$DOWNLOAD_CA" >"$ca"
  fi
  cat >"$RUN/store.conf" <<END
url = "$REDIRECT_URL"
cacert = "$ca"
proto = "=${DOWNLOAD_ORIGIN%%:*}"
tlsv1.2
silent
show-error
connect-timeout = 15
END
}

# Whole lines, no cursor movement: a serial console and a log file must be able to read it.
show_progress() {
  local before now
  before=$(size_of "$2")
  while sleep "$PROGRESS_SECONDS"; do
    now=$(size_of "$2")
    say "$1: $((now * 100 / $3))% of $(mebibytes "$3") MiB, $(((now - before) / 1024 / PROGRESS_SECONDS)) KiB/s"
    before=$now
  done
}

size_of() { stat -c %s "$1" 2>/dev/null || echo 0; }
