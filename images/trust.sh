#!/bin/sh
# Puts into a stage-2 initramfs whose signatures its agent believes: one build of build.sh serves every site, this makes it yours.
#
#   images/trust.sh --initramfs IN --publisher CERT.pem... [--accept-unsigned] --out OUT
#
# CERT.pem is what `pawl publisher show NAME --pem` prints, or DIR/publisher.crt: its first certificate is trusted, not those of the
# CA behind it. Repeat --publisher for several. --accept-unsigned: start images too that nobody trusted has signed, with a warning
# on the console. For laboratories: whoever can change what the server says then decides what machines run.
#
# OUT is IN with one small archive behind it, which the kernel unpacks over the first. The same input gives the same bytes.
set -eu
umask 022
export LC_ALL=C TZ=UTC

recipes=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=recipe.sh
. "$recipes/recipe.sh"

usage='usage: images/trust.sh --initramfs IN --publisher CERT.pem... [--accept-unsigned] --out OUT'

main() {
  initramfs='' out='' unsigned='' publishers=0
  require openssl:openssl cpio:cpio
  make_work "${TMPDIR:-/tmp}/pawl-trust.XXXXXX"
  tree=$work/tree
  mkdir -p "$tree/etc/pawl"
  while [ $# -gt 0 ]; do
    [ "$1" = --accept-unsigned ] || [ $# -gt 1 ] || stop "$usage"
    case $1 in
      --initramfs) initramfs=$2 ;;
      --out) out=$2 ;;
      --publisher)
        add_publisher "$2"
        publishers=$((publishers + 1))
        ;;
      --accept-unsigned) unsigned=yes ;;
      *) stop "unknown option \"$1\": $usage" ;;
    esac
    if [ "$1" = --accept-unsigned ]; then shift; else shift 2; fi
  done
  if [ -z "$initramfs" ] || [ -z "$out" ]; then stop "$usage"; fi
  [ "$publishers" -gt 0 ] || [ -n "$unsigned" ] || stop "name a publisher to trust: $usage"
  [ -s "$initramfs" ] || stop "there is no $initramfs"
  [ -z "$unsigned" ] || echo 'images that nobody trusted has signed are started too' >"$tree/etc/pawl/accept-unsigned"
  append
}

# add_publisher FILE: its first certificate.
add_publisher() {
  [ -r "$1" ] || stop "there is no $1"
  sed -n '/^-----BEGIN CERTIFICATE-----/,/^-----END CERTIFICATE-----/p; /^-----END CERTIFICATE-----/q' "$1" >"$work/leaf"
  openssl x509 -in "$work/leaf" -noout 2>/dev/null || stop "$1 holds no certificate (PEM)"
  # What it signed as a CA would be trusted too.
  case $(openssl x509 -in "$work/leaf" -noout -ext basicConstraints 2>/dev/null) in
    *CA:TRUE*) stop "the first certificate of $1 is a CA: name the publisher's own" ;;
  esac
  cat "$work/leaf" >>"$tree/etc/pawl/publishers.pem"
}

# The kernel takes archives one after the other when each begins at a multiple of 4.
append() {
  cp "$initramfs" "$work/out"
  head -c "$(((4 - $(stat -c %s "$initramfs") % 4) % 4))" /dev/zero >>"$work/out"
  find "$tree" -exec touch -h -d "@$EPOCH" {} +
  (cd "$tree" && find etc/pawl | sort | cpio --quiet -o -H newc --reproducible -R 0:0) >>"$work/out" || stop "cannot pack $out"
  cp "$work/out" "$out.tmp"
  mv "$out.tmp" "$out"
}

main "$@"
