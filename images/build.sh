#!/bin/sh
# Builds the two small images from what fetch.sh downloaded and from Debian packages of this machine. No root is needed.
#
#   images/build.sh --cache DIR --out DIR [--kernel cloud|generic] [--arch x86_64|arm64]
#
# DIR/stage2/{vmlinuz,initramfs}                        the minimal Linux with the stage-2 agent
# DIR/stage3/{vmlinuz,initramfs,filesystem.squashfs}    the initramfs that fetches its root, and a small demo system
# Each with packages.txt, the Debian packages in it, and annotations.json for its manifest.
#
# cloud (the default): virtual machines only, 13 MiB less. generic: real servers, with every Ethernet driver of linux-image-amd64 and
# the firmware these load. --arch: this machine's if not said; arm64 is built on x86_64 too, from the parts of fetch.sh for it.
#
# Reproducible: with the same packages and recipes the same bytes, whatever the folder, the umask or the time. Nothing of a site is
# in them (its CA comes with the handover), so one build serves every site.
set -eu
umask 022
export LC_ALL=C TZ=UTC
unset SOURCE_DATE_EPOCH # mksquashfs refuses it beside -all-time

recipes=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=recipe.sh
. "$recipes/recipe.sh"

main() {
  cache='' out='' flavour=cloud arch=$(uname -m | sed 's/^aarch64$/arm64/')
  usage='usage: images/build.sh --cache DIR --out DIR [--kernel cloud|generic] [--arch x86_64|arm64]'
  while [ $# -gt 0 ]; do
    case $1 in
      --cache) cache=${2-} ;;
      --out) out=${2-} ;;
      --kernel) flavour=${2-} ;;
      --arch) arch=${2-} ;;
      *) stop "unknown option \"$1\": $usage" ;;
    esac
    shift $(($# > 1 ? 2 : 1))
  done
  if [ -z "$cache" ] || [ -z "$out" ]; then stop "$usage"; fi
  case $flavour in
    cloud) parts=kernel compress=gzip ;;
    generic) parts='kernel-generic firmware' compress=zstd ;;
    *) stop "unknown kernel \"$flavour\": cloud or generic" ;;
  esac
  case $arch in
    x86_64) ;;
    arm64) parts=$(echo "$parts" | sed 's/kernel[a-z-]*/&-arm64/') ;;
    *) stop "unknown architecture \"$arch\": x86_64 or arm64" ;;
  esac
  require busybox:busybox-static curl:curl dhcpcd:dhcpcd-base kexec:kexec-tools openssl:openssl jq:jq nft:nftables cpio:cpio mksquashfs:squashfs-tools xz:xz-utils zstd:zstd
  # A dynamic busybox would need its libraries before anything is there.
  ! ldd "$(find_program busybox)" >/dev/null 2>&1 || stop 'busybox is not static: apt-get install -y busybox-static'
  for part in $parts; do
    [ -e "$cache/$part/packages.txt" ] || stop "$cache/$part is missing: run images/fetch.sh $cache $parts first"
  done
  mkdir -p "$out"
  out=$(cd "$out" && pwd)
  cache=$(cd "$cache" && pwd)
  use_architecture "$arch" busybox curl dhcpcd jq kexec nft openssl
  make_work "$out/.build.XXXXXX"
  prepare_kernel "${parts%% *}"
  build_stage2
  build_stage3
  for stage in stage2 stage3; do
    rm -rf "${out:?}/$stage"
    mv -T "$work/out/$stage" "$out/$stage"
  done
}

build_stage2() {
  tree=$work/stage2
  base_tree "$tree"
  add_programs "$tree" curl dhcpcd kexec jq openssl
  add_drivers "$tree" "$recipes/stage2/modules" "$recipes/filesystem/modules"
  install -m 755 "$recipes/stage2/init" "$tree/init"
  copy_kernel "$work/out/stage2"
  pack_initramfs "$tree" "$work/out/stage2/initramfs"
  describe stage2 busybox curl dhcpcd kexec jq openssl
}

build_stage3() {
  copy_kernel "$work/out/stage3"
  pack_stage3_initramfs "$work/out/stage3/initramfs"

  tree=$work/filesystem
  base_tree "$tree"
  add_programs "$tree" curl dhcpcd jq nft openssl
  # The NIC has its driver and its firmware by now; the others are not needed by a demo.
  add_modules "$tree" "$recipes/stage3/modules" "$recipes/filesystem/modules"
  install -m 644 "$recipes/filesystem/stage3.sh" "$recipes/filesystem/secret.sh" "$tree/usr/lib/pawl/"
  install -m 755 "$recipes/filesystem/agent" "$tree/usr/lib/pawl/agent"
  install -m 644 "$recipes/filesystem/inittab" "$tree/etc/inittab"
  mkdir -p "$tree/root" "$tree/var" "$tree/tmp" "$tree/home"
  chmod 700 "$tree/root"
  pack_filesystem "$tree" "$work/out/stage3/filesystem.squashfs"
  describe stage3 busybox curl dhcpcd jq nft openssl
}

# describe STAGE PROGRAM...
describe() {
  stage=$1
  shift
  {
    installed_packages "$@"
    for part in $parts; do cat "$cache/$part/packages.txt"; done
  } | sort -u >"$work/out/$stage/packages.txt"
  write_annotations "$work/out/$stage" "pawl-$stage-$flavour$([ "$arch" = x86_64 ] || echo "-$arch")" "$work/out/$stage/packages.txt"
}

main "$@"
