# shellcheck shell=dash
# shellcheck disable=SC2154  # RUN is set by agent.sh
# The boot medium: a FAT volume labelled PAWL, with the node's own files in its folder pawl. Sourced by agent.sh, whose rules hold
# here too. Media are made by `pawl media build`; a stick made by hand needs the label and the folder.

MEDIUM=$RUN/medium
MEDIUM_LABEL=PAWL
# A stick on USB is there some seconds after its driver.
MEDIUM_SECONDS=8
# A stick that is dying can keep the kernel busy for minutes; one that works is mounted in less than one second.
MEDIUM_MOUNT_SECONDS=20

# mount_medium ro|rw: mounts it at $MEDIUM, for root only. 1: there is none.
# Of what others could have written there, nothing is run and no device is opened.
mount_medium() {
  local waited=0 device
  load_drivers vfat nls_cp437 nls_iso8859-1 nls_ascii nls_utf8 virtio_blk sd_mod usb-storage uas
  while ! device=$(findfs "LABEL=$MEDIUM_LABEL" 2>/dev/null); do
    [ "$waited" -lt "$MEDIUM_SECONDS" ] || return 1
    waited=$((waited + 1))
    sleep 1
  done
  mkdir -p "$MEDIUM"
  within "$MEDIUM_MOUNT_SECONDS" mount -t vfat -o "$1,nosuid,nodev,noexec,umask=077" "$device" "$MEDIUM" 2>"$RUN/medium.error"
}

# within SECONDS COMMAND…: its exit code; 124 where it has not ended by then. Who hangs in the kernel hears no signal, not even the
# one of `timeout`, which would wait for it: it is left behind, and this script goes on without it.
within() {
  local seconds=$1 quarters=0 code status
  shift
  status=$(mktemp "$RUN/within.XXXXXX")
  {
    code=0
    "$@" || code=$?
    echo "$code" >"$status"
  } >/dev/null & # whoever reads what this script says must not wait for it either
  while [ ! -s "$status" ]; do
    [ "$quarters" -lt "$((seconds * 4))" ] || return 124
    quarters=$((quarters + 1))
    sleep 0.25
  done
  read -r code <"$status"
  rm -f "$status"
  return "$code"
}

umount_medium() {
  sync
  umount "$MEDIUM"
}

# take_certificate: the node's client certificate with its key, where its profile requires one. iPXE under UEFI has put it beside this
# initramfs; where it could not (BIOS), it is read from the medium. Without it the server opens nothing from here on.
take_certificate() {
  local file
  [ "$NEEDS_CERTIFICATE" = true ] || return 0
  [ ! -s "$CERTIFICATE" ] || return 0
  if mount_medium ro; then
    file=$MEDIUM/pawl/client.pem
    # Some kilobytes: whatever is larger is something else.
    [ ! -f "$file" ] || head -c 65536 "$file" >"$CERTIFICATE"
    umount_medium
  fi
  [ -s "$CERTIFICATE" ] || fail 'this machine has no client certificate, and its profile requires one' \
    "pawl node certificate issue $NODE --out client.pem, and put that file on the boot medium as /pawl/client.pem"
  use_certificate
}

# use_certificate: from now on curl shows it to the server, and to nobody else. The key is in the same file: neither is in argv.
use_certificate() {
  if ! grep -q 'PRIVATE KEY' "$CERTIFICATE" || ! grep -q 'BEGIN CERTIFICATE' "$CERTIFICATE"; then
    rm -f "$CERTIFICATE"
    fail 'the client certificate of this machine cannot be used' \
      '/pawl/client.pem must hold the key and the certificate, both PEM'
  fi
  chmod 600 "$CERTIFICATE"
  printf 'cert = "%s"\nkey = "%s"\n' "$CERTIFICATE" "$CERTIFICATE" >>"$RUN/curl.conf"
  say 'a client certificate is there'
}
