# shellcheck shell=dash
# What the agents of stage 2 and stage 3 share. Sourced, never run.
#
# The rules all of them keep:
# - Every file is made for root only (umask 077); what others may read says so.
# - Console lines begin with "pawl: STAGE: ", have no control codes, and say what to do when something is wrong.
# - A secret is never in argv, in the environment or on the console: curl reads its headers from files below $RUN.
# - Every failure is reported to the server in words while there is a network, then the machine reboots by itself:
#   stage 1 begins anew, and nobody has to press a button.
# - What may be lost on the way (no answer, 5xx) is asked again with the same Idempotency-Key; 403 is final.

RUN=/run/pawl
HANDOVER=$RUN/handover.json
CERTIFICATE=$RUN/client.pem
CONSOLE=$RUN/console.log
SPANS=$RUN/spans
STAGE=${STAGE:-boot}

# A machine may wait this long for a server that is away, well within the session's idle lifetime of 2 h.
RETRY_SECONDS=1800
# A download that arrives damaged more often than this is not bad luck.
DAMAGED_LIMIT=3
PROGRESS_SECONDS=5
REBOOT_DELAY_SECONDS=60

NETWORK_IS_UP=

# For jq programs whose output the shell evaluates: any value as one quoted word, null as an empty one.
JQ_WORD='def word: if . == null then "" else tostring end | @sh; '

umask 077

# --- words ---------------------------------------------------------------------------------------------------------

# What is said is kept for the server too, where it goes when something fails (send_console).
say() {
  echo "pawl: $STAGE: $*"
  [ ! -d "$RUN" ] || echo "pawl: $STAGE: $*" >>"$CONSOLE"
}

# fail MESSAGE [HINT]: final. Tells console and server, waits, reboots. Never returns.
fail() {
  say "error: $1"
  [ -z "${2-}" ] || say "hint: $2"
  report_error "$1" final
  send_console
  reboot_later
}

# The wait keeps a machine that fails at once from asking the server for stage 1 all the time.
reboot_later() {
  trap - EXIT
  local delay
  delay=$(boot_arg pawl.reboot_delay "$REBOOT_DELAY_SECONDS")
  case $delay in '' | *[!0-9]*) delay=$REBOOT_DELAY_SECONDS ;; esac
  say "rebooting in $delay s to begin again at stage 1"
  sleep "$delay"
  sync
  reboot -f
  # Where even that does not work, do not return into a boot that failed.
  while :; do sleep 3600; done
}

# For trap … EXIT: an agent that ends by surprise as process 1 would be a kernel panic without a word.
ended_by_surprise() { fail 'the agent stopped unexpectedly' 'see the lines above; this is a fault of the image'; }

# boot_arg NAME DEFAULT: the value of NAME=VALUE on the kernel command line.
boot_arg() {
  local word value=$2
  # shellcheck disable=SC2013  # words are what is wanted
  for word in $(cat /proc/cmdline); do
    case $word in "$1"=*) value=${word#*=} ;; esac
  done
  echo "$value"
}

uptime_seconds() { cut -d. -f1 /proc/uptime; }

# Sets CENTISECONDS since the kernel began. No program is started.
read_centiseconds() {
  local up rest
  read -r up rest </proc/uptime
  rest=${up#*.}
  CENTISECONDS=$((${up%.*} * 100 + 1$rest - 100))
}

# note_span KIND CENTISECONDS BYTES|- WHAT: what took so long until now, for the timeline. It goes along with what is sent anyway, and
# nothing waits for it.
note_span() {
  local took=$2
  echo "$1 $(($(date +%s) - took / 100)) $((took / 100)).$((took % 100 / 10))$((took % 10)) $3 $4" >>"$SPANS"
}
mebibytes() { echo $((($1 + 1048575) / 1048576)); }

# --- start ---------------------------------------------------------------------------------------------------------

mount_kernel_filesystems() {
  mount -t devtmpfs -o mode=0755,nosuid dev /dev
  exec </dev/console >/dev/console 2>&1
  mount -t proc -o nosuid,nodev,noexec proc /proc
  mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
  # Downloads go here: a tmpfs of our own may use nearly all memory, the initramfs only half of it.
  mount -t tmpfs -o mode=0755,nosuid,nodev,size=90% run /run
}

# Loads a driver for all devices that announce themselves. A bus driver (virtio_pci) makes new devices appear, so twice.
load_drivers() {
  local pass
  # shellcheck disable=SC2034
  for pass in bus device; do
    find /sys/devices -name modalias -exec cat {} + 2>/dev/null | sort -u |
      xargs -r modprobe -a -q 2>/dev/null
  done
  modprobe -a -q "$@" 2>/dev/null
  return 0
}

# receive_handover FILE: takes the handover that the boot loader (or the stage before) put beside this initramfs.
receive_handover() {
  mkdir -p "$RUN"
  [ -e "$1" ] || fail "no handover: $1 is missing" \
    'the boot script must load it as one more initrd: initrd BASE/handover?k=KEY /pawl.json mode=0600'
  mv "$1" "$HANDOVER"
  chmod 600 "$HANDOVER"
  # What the stage before did, and how long the kernel took from the jump to here.
  if [ -s /pawl-spans ]; then
    mv /pawl-spans "$SPANS"
    read_centiseconds
    note_span kexec "$CENTISECONDS" - 'the kernel, to the start of the initramfs'
  fi
  # Where the profile requires one: iPXE read it from the boot medium, or the stage before packed it.
  [ ! -s /pawl-client.pem ] || mv /pawl-client.pem "$CERTIFICATE"
  read_handover
  prefer_fast_cipher
  say "session $SESSION of $NODE"
}

# A processor without instructions for AES takes up to five times as long for it as for ChaCha20. The server chooses, and prefers AES-256:
# that is left out then. AES-128, which all of TLS 1.3 must have (RFC 8446 section 9.1), is for a server without ChaCha20. Only here, where
# the images are fetched: what curl a full system has is not known.
prefer_fast_cipher() {
  grep -qE '^(flags|Features)[[:space:]]*:.* aes( |$)' /proc/cpuinfo ||
    echo 'tls13-ciphers = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"' >>"$RUN/curl.conf"
}

# Reads the handover with one start of jq (under emulation each costs 0.4 s) and makes the files curl needs. Sets
#   BASE NODE SESSION SERVER_TIME NEEDS_CERTIFICATE DOWNLOAD_{ORIGIN,CA} MIRROR_CA FILESYSTEM_{URL,MIRROR,SHA256,SIZE} TOKEN_{STAGE2,STAGE3,REPORT,FILESYSTEM}
#   NIC_{MAC,VLAN,FAMILY,DHCP,ADDRESS,NETMASK,GATEWAY,DNS,METHOD6,ADDRESS6,PREFIX6,GATEWAY6,DNS6,DUID,IAID}
# The tokens are shell variables: not exported, and no program gets one as an argument.
read_handover() {
  local values CA
  values=$(jq -er "$JQ_WORD"'
    if .version != 1 or (.base | startswith("https://") | not) or (.tokens.report | length) == 0 or (.ca | length) == 0
    then error("not a handover") else . end |
    "BASE=\(.base | word) NODE=\(.host | word) SESSION=\(.session | word) CA=\(.ca | word)",
    "DOWNLOAD_ORIGIN=\(.downloads.origin | word) DOWNLOAD_CA=\(.downloads.ca | word) MIRROR_CA=\(.downloads.mirrorCa | word)",
    "NEEDS_CERTIFICATE=\(.certificate // false | word)",
    "SERVER_TIME=\(.time | if . == null then null else sub("\\.[0-9]+Z$"; "Z") | fromdateiso8601 end | word)",
    (.tokens | "TOKEN_STAGE2=\(.stage2 | word) TOKEN_STAGE3=\(.stage3 | word) TOKEN_REPORT=\(.report | word)"),
    (.filesystem // {} | "FILESYSTEM_URL=\(.url | word) FILESYSTEM_MIRROR=\(.mirror | word) FILESYSTEM_SHA256=\(.sha256 | word) FILESYSTEM_SIZE=\(.size | word)",
      "TOKEN_FILESYSTEM=\(.capability | word)"),
    (.nic // {} | "NIC_MAC=\(.mac // "" | ascii_downcase | gsub("-"; ":") | word) NIC_DHCP=\(.dhcp | word) NIC_VLAN=\(.vlan | word)",
      "NIC_ADDRESS=\(.address | word) NIC_NETMASK=\(.netmask | word) NIC_GATEWAY=\(.gateway | word) NIC_DNS=\(.dns | word)",
      "NIC_FAMILY=\(.family // 4 | word) NIC_METHOD6=\(.method6 | word) NIC_ADDRESS6=\(.address6 | word) NIC_PREFIX6=\(.prefix6 | word)",
      "NIC_GATEWAY6=\(.gateway6 | word) NIC_DNS6=\(.dns6 | word) NIC_DUID=\(.duid | word) NIC_IAID=\(.iaid | word)")
  ' "$HANDOVER" 2>/dev/null) ||
    fail 'the handover is not one this image can read (version 1)' 'use images as new as the server'
  eval "$values"
  printf '%s\n' "$CA" >"$RUN/ca.crt"
  cat >"$RUN/curl.conf" <<END
cacert = "$RUN/ca.crt"
proto = "=https"
tlsv1.3
silent
show-error
connect-timeout = 15
ipv$NIC_FAMILY
END
  [ ! -s "$CERTIFICATE" ] || use_certificate
  write_headers "$RUN/report.headers" "$TOKEN_REPORT"
}

# write_headers FILE TOKEN: for curl's -H @FILE. printf is part of the shell: no process, no argv.
write_headers() { printf 'Authorization: Bearer %s\n' "$2" >"$1"; }

# An Idempotency-Key: 192 random bits as base64url. Only ever in memory (a tmpfs) of this machine.
new_idempotency_key() { head -c 24 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'; }

# The clock decides whether the server's certificate is valid. The handover came seconds ago over TLS that the boot
# loader checked, so its time is better than a clock that is behind it or far ahead of it.
set_clock() {
  local now
  [ -n "$SERVER_TIME" ] || { say 'the handover tells no time: keeping the clock'; return 0; }
  now=$(date +%s)
  if [ "$now" -lt "$SERVER_TIME" ] || [ "$now" -gt $((SERVER_TIME + 3600)) ]; then
    date -u -s "@$SERVER_TIME" >/dev/null && say "clock set to $(date -u '+%Y-%m-%d %H:%M:%S') UTC"
  fi
}

# shellcheck source-path=SCRIPTDIR source=network.sh
. /usr/lib/pawl/network.sh
# shellcheck source-path=SCRIPTDIR source=medium.sh
. /usr/lib/pawl/medium.sh
# shellcheck source-path=SCRIPTDIR source=transfer.sh
. /usr/lib/pawl/transfer.sh
