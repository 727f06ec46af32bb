# shellcheck shell=dash
# shellcheck disable=SC2154  # RUN and BASE are set by agent.sh
# The enrolment secret on the boot medium, where it rotates: the answer of stage 3 then brings a new one. Sourced by stage3.sh.
#
# The medium is a FAT volume labelled PAWL whose pawl/secret.ipxe sets the secret that this boot began with: another node's stick, or
# a spare one, is not touched. The new file is written beside the old one, synced, renamed over it, and synced: a power cut leaves
# one or the other, and the server takes both until the new one was used. Nothing here stops a boot: what fails is told, and the old
# secret stays good.

SECRET_LABEL=PAWL
SECRET_FILE=pawl/secret.ipxe
SECRET_BLOCKS=/sys/class/block
SECRET_DEVICES=/dev
# A stick on USB is there some seconds after its driver. A medium that does not answer must not hold up the node.
SECRET_WAIT_SECONDS=8
SECRET_GIVE_UP_SECONDS=60

# Called when stage 3 is redeemed; does nothing where the server brought no new secret.
rotate_secret() {
  local NEW_ID NEW_SECRET REPLACES values writer waited=0
  # Most boots: jq costs ten times as much as this.
  grep -q '"newSecret"' "$RUN/stage3.json" || return 0
  values=$(jq -er "$JQ_WORD"'
    .newSecret // empty |
    if (.id | test("^[A-Za-z0-9_-]{12}$")) and (.secret | test("^[A-Za-z0-9_-]{44}$")) and (.replaces | test("^[A-Za-z0-9_-]{12}$"))
    then . else error("not a secret") end |
    "NEW_ID=\(.id | word) NEW_SECRET=\(.secret | word) REPLACES=\(.replaces | word)"
  ' "$RUN/stage3.json" 2>/dev/null) || return 0
  eval "$values"
  say 'the enrolment secret rotates: looking for the boot medium'
  rm -f "$RUN/secret.fault" "$RUN/secret.done"
  # A process of its own: one that waits for a broken stick cannot be ended, only left behind.
  write_secret </dev/null >/dev/null 2>&1 &
  writer=$!
  while [ ! -e "$RUN/secret.done" ] && [ "$waited" -lt $((SECRET_GIVE_UP_SECONDS * 4)) ]; do
    sleep 0.25
    waited=$((waited + 1))
  done
  if [ ! -e "$RUN/secret.done" ]; then
    kill "$writer" 2>/dev/null
    echo "the medium does not answer: gave up after $SECRET_GIVE_UP_SECONDS s" >"$RUN/secret.fault"
  fi
  if [ -s "$RUN/secret.fault" ]; then
    say "warning: the new enrolment secret is not on the boot medium: $(cat "$RUN/secret.fault")"
    say 'hint: the old one stays good; for a medium that cannot be written to, issue a static one: pawl node secret NODE'
  else
    say 'new enrolment secret written to the boot medium'
    rm -f "$RUN/secret.fault"
  fi
  tell_secret "$NEW_ID"
  rm -f "$RUN"/secret.*
  rmdir "$RUN/medium-of-secret" 2>/dev/null
  return 0
}

# Leaves secret.done, and in secret.fault what went wrong; empty where nothing did.
write_secret() {
  local device waited=0 found=
  : >"$RUN/secret.fault"
  load_drivers vfat nls_cp437 nls_ascii nls_iso8859-1 virtio_blk sd_mod usb-storage uas
  mkdir -p "$RUN/medium-of-secret"
  while [ -z "$found" ] && [ "$waited" -le "$SECRET_WAIT_SECONDS" ]; do
    for device in $(list_volumes); do
      if write_to "$device"; then
        found=$device
        break
      fi
    done
    [ -n "$found" ] || sleep 1
    waited=$((waited + 1))
  done
  [ -n "$found" ] || secret_fault "there is no FAT volume $SECRET_LABEL whose $SECRET_FILE has the secret of this boot"
  : >"$RUN/secret.done"
}

secret_fault() { printf '%s' "$1" | tr -c '\040-\176' ' ' >"$RUN/secret.fault"; }

# The names of all volumes with the label. It is read from the first sector (FAT12/16: at 43, FAT32: at 71): one program for this
# that is the same in busybox and in Debian is not there.
list_volumes() {
  local path name
  for path in "$SECRET_BLOCKS"/*; do
    name=${path##*/}
    case $name in loop* | ram* | zram*) continue ;; esac
    dd if="$SECRET_DEVICES/$name" of="$RUN/secret.sector" bs=512 count=1 2>/dev/null || continue
    case $(sector_text 54 3)$(sector_text 43 11)/$(sector_text 82 5)$(sector_text 71 11) in
      "FAT$SECRET_LABEL       "/* | */"FAT32$SECRET_LABEL       ") echo "$name" ;;
    esac
  done
}

sector_text() { tail -c "+$(($1 + 1))" "$RUN/secret.sector" | head -c "$2" | tr -d '\000'; }

# write_to DEVICE: 1: it is not the medium of this boot. Else it is done, or secret.fault says why not.
# Of what others could have written there, nothing is run and no device is opened.
write_to() {
  local at=$RUN/medium-of-secret options=nosuid,nodev,noexec,umask=077
  mount -t vfat -o "ro,$options" "$SECRET_DEVICES/$1" "$at" || return 1
  # Its size first: a file that somebody else made must not fill the memory.
  if [ "$(size_of "$at/$SECRET_FILE")" -gt 1024 ] || ! grep -q "^set pawl-secret ${REPLACES}[A-Za-z0-9_-]*\$" "$at/$SECRET_FILE"; then
    umount "$at"
    return 1
  fi
  if [ "$(cat "$SECRET_BLOCKS/$1/ro")" != 0 ]; then
    secret_fault "the medium /dev/$1 is read-only"
  elif ! mount -o "remount,rw,$options" "$at" 2>"$RUN/secret.error"; then
    secret_fault "the medium /dev/$1 cannot be written to: $(tail -n 1 "$RUN/secret.error")"
  elif ! replace_secret "$at/$SECRET_FILE" 2>"$RUN/secret.error"; then
    secret_fault "the medium /dev/$1 took no new file: $(tail -n 1 "$RUN/secret.error")"
    rm -f "$at/$SECRET_FILE.new"
  fi
  sync
  umount "$at" || secret_fault "the medium /dev/$1 could not be taken off: what was written may not be on it"
  return 0
}

# replace_secret FILE
replace_secret() {
  printf '#!ipxe\nset pawl-secret %s\n' "$NEW_SECRET" >"$1.new" || return 1
  sync
  grep -q "^set pawl-secret $NEW_ID" "$1.new" && mv -f "$1.new" "$1"
}

# tell_secret ID: what became of it. Some tries: it is for operators, the next boot finds out by itself.
tell_secret() {
  local tries=0 written=true
  [ ! -s "$RUN/secret.fault" ] || written=false
  [ -e "$RUN/secret.fault" ] || : >"$RUN/secret.fault"
  while :; do
    request "$RUN/report.headers" /dev/null "$BASE/secret" --max-time 20 --data-urlencode "id=$1" \
      --data-urlencode "written=$written" --data-urlencode "reason@$RUN/secret.fault"
    case $HTTP_STATUS in
      200 | 204) return 0 ;;
      403)
        say 'warning: the server does not want to know of the new secret (403): another was issued, or this session has ended'
        return 0
        ;;
    esac
    tries=$((tries + 1))
    [ "$tries" -lt 4 ] || break
    sleep 2
  done
  say "the server could not be told of the new secret: $REQUEST_ERROR"
}
