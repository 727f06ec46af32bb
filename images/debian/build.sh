#!/bin/sh
# Builds the Debian stage 3: systemd, sshd, containerd and room for kubeadm, on the kernel for real servers.
#
#   images/debian/build.sh --cache DIR --out DIR [--packages FILE] [--debs DIR]
#
# DIR/debian/{vmlinuz,initramfs,filesystem.squashfs}    to be published as one image
# DIR/debian/packages.txt         every Debian package of the filesystem, the kernel and the firmware, with its SHA-256
# DIR/debian/build-packages.txt   the packages of this machine whose programs are in the initramfs
# DIR/debian/extra-packages.txt   with --debs: those
# DIR/debian/annotations.json     for the manifest
#
# Needs no network: fetch.sh has brought all packages. --packages FILE, a packages.txt from before, refuses a cache that holds
# anything else. --debs DIR installs these .deb files too (kubeadm and its kin are not in Debian); what they depend on must be there.
#
# Reproducible: with the same packages and recipes the same bytes. mmdebstrap needs root, or user namespaces: then install uidmap and
# give the user a range in /etc/subuid and /etc/subgid.
set -eu
umask 022
export LC_ALL=C TZ=UTC

recipes=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=../recipe.sh
. "$recipes/recipe.sh"
parts='kernel-generic firmware debian'
compress=zstd
# What no server has, by folders of the kernel's modules: three fifths of their size.
left_out='sound drivers/gpu drivers/media drivers/staging drivers/iio drivers/comedi drivers/isdn drivers/bluetooth drivers/nfc
  drivers/net/wireless drivers/net/ieee802154 drivers/net/can drivers/net/hamradio drivers/input/joystick
  drivers/input/touchscreen drivers/input/tablet drivers/video drivers/platform/chrome drivers/pcmcia drivers/parport
  net/mac80211 net/wireless net/bluetooth net/nfc net/can net/ax25 net/mac802154 net/rxrpc fs/ocfs2 fs/reiserfs fs/jfs fs/afs fs/coda'

main() {
  cache='' out='' pins='' extra=''
  usage='usage: images/debian/build.sh --cache DIR --out DIR [--packages FILE] [--debs DIR]'
  while [ $# -gt 0 ]; do
    case $1 in
      --cache) cache=${2-} ;;
      --out) out=${2-} ;;
      --packages) pins=${2-} ;;
      --debs) extra=${2-} ;;
      *) stop "unknown option \"$1\": $usage" ;;
    esac
    shift $(($# > 1 ? 2 : 1))
  done
  if [ -z "$cache" ] || [ -z "$out" ]; then stop "$usage"; fi
  require busybox:busybox-static curl:curl dhcpcd:dhcpcd-base jq:jq cpio:cpio mksquashfs:squashfs-tools xz:xz-utils zstd:zstd mmdebstrap:mmdebstrap
  check_cache
  mkdir -p "$out"
  out=$(cd "$out" && pwd)
  cache=$(cd "$cache" && pwd)
  make_work "$out/.build.XXXXXX"
  # In a user namespace this folder is another user's.
  chmod 755 "$work"
  mkdir -p "$work/out"
  suite=$(cat "$cache/debian/suite")
  prepare_kernel kernel-generic
  copy_kernel "$work/out"
  pack_stage3_initramfs "$work/out/initramfs"
  make_repository
  collect_additions
  install_system
  describe
  rm -rf "${out:?}/debian"
  mv -T "$work/out" "$out/debian"
}

check_cache() {
  for part in $parts; do
    [ -e "$cache/$part/packages.txt" ] || stop "$cache/$part is missing: run images/fetch.sh $cache $parts first"
    [ -z "$pins" ] || [ -z "$(sort "$pins" | comm -13 - "$cache/$part/packages.txt")" ] ||
      stop "the cache holds other packages than $pins: run images/fetch.sh --packages $pins $cache $parts first"
  done
}

# An archive in a folder, for apt: the packages that fetch.sh verified, and the builder's own.
make_repository() {
  mkdir -p "$work/repository"
  ln -s "$cache"/debian/debs/*.deb "$work/repository/"
  [ -z "$extra" ] || ln -s "$(cd "$extra" && pwd)"/*.deb "$work/repository/"
  for deb in "$work/repository"/*.deb; do
    dpkg-deb -f "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "${deb##*/}" "$(stat -L -c %s "$deb")" "$(sha256sum "$deb" | cut -d' ' -f1)"
  done >"$work/repository/Packages"
  # mmdebstrap takes essential packages only from an archive that says which suite it is.
  {
    printf 'Origin: Debian\nSuite: %s\nCodename: %s\nSHA256:\n' "$suite" "$suite"
    (cd "$work/repository" && printf ' %s %s Packages\n' "$(sha256sum Packages | cut -d' ' -f1)" "$(stat -c %s Packages)")
  } >"$work/repository/Release"
}

# What is not from packages: the kernel's modules, firmware, our agent and the settings below files/.
collect_additions() {
  add=$work/add
  mkdir -p "$add/usr/lib/modules" "$add/usr/lib/pawl"
  cp -R "$modules" "$add/usr/lib/modules/$release"
  for folder in $left_out; do rm -rf "${add:?}/usr/lib/modules/$release/kernel/$folder"; done
  # finish.sh makes the index anew.
  rm -f "$add/usr/lib/modules/$release/modules.dep" "$add/usr/lib/modules/$release/modules.alias" \
    "$add/usr/lib/modules/$release/modules.symbols"
  add_firmware "$add"
  # What the kernel can do, for programs that look: kubeadm's preflight checks do, and stop where they cannot.
  install -D -m 644 "$kernel/boot/config-$release" "$add/boot/config-$release"
  cp -R "$recipes/debian/files/." "$add/"
  install -m 644 "$recipes/lib/agent.sh" "$recipes/lib/medium.sh" "$recipes/lib/network.sh" "$recipes/lib/transfer.sh" \
    "$recipes/filesystem/stage3.sh" "$recipes/filesystem/secret.sh" "$add/usr/lib/pawl/"
  install -m 755 "$recipes/debian/agent" "$recipes/debian/prepare" "$recipes/lib/identity.sh" "$add/usr/lib/pawl/"
  mkdir -p "$add/usr/sbin"
  ln -s ../lib/pawl/identity.sh "$add/usr/sbin/pawl-identity"
  chmod -R u=rwX,go=rX "$add"
}

install_system() {
  include=$(sed -n 's/^Package: //p' "$work/repository/Packages" | paste -s -d , -)
  mode=root as_root=
  [ "$(id -u)" = 0 ] || { mode=unshare as_root='unshare --map-root-user'; }
  export SOURCE_DATE_EPOCH="$EPOCH" PAWL_ADD="$add" PAWL_KERNEL_RELEASE="$release"
  # trusted: each file's digest was compared with Debian's signed lists when it was fetched.
  mmdebstrap --quiet --mode="$mode" --variant=essential --format=tar --include="$include" \
    --hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr \
    --aptopt='APT::Install-Recommends "false"' --aptopt='APT::Sandbox::User "root"' \
    --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook="$recipes/debian/finish.sh" \
    "$suite" "$work/system.tar" "deb [trusted=yes] copy:$(echo "$work" | sed 's/ /%20/g')/repository ./" >"$work/log" 2>&1 ||
    stop "mmdebstrap: $(grep -m 3 -E '^(E:|dpkg: error)' "$work/log" || tail -n 3 "$work/log")"
  # The root folder itself is not taken from the archive: it is whose this process is, of SOURCE_DATE_EPOCH, and open to all if not
  # told otherwise.
  $as_root mksquashfs - "$work/out/filesystem.squashfs" -tar -noappend -no-progress -quiet -comp zstd -Xcompression-level 9 \
    -root-mode 755 <"$work/system.tar" >"$work/log" 2>&1 ||
    stop "mksquashfs: $(tail -n 1 "$work/log")"
}

describe() {
  [ -z "$extra" ] || for deb in "$extra"/*.deb; do describe_deb "$deb"; done >"$work/out/extra-packages.txt"
  # What dpkg says is in there must be what the list says.
  tar -xOf "$work/system.tar" ./var/lib/dpkg/status |
    awk '/^Package:/ { name = $2 } /^Architecture:/ { arch = $2 } /^Version:/ { version = $2 } /^$/ { print name "=" version " " arch }' |
    sort >"$work/installed.txt"
  cat "$cache/debian/packages.txt" "$work/out/extra-packages.txt" 2>/dev/null | cut -d' ' -f1,2 | sort |
    diff - "$work/installed.txt" >"$work/log" ||
    stop "what is installed is not what was wanted: $(grep -m 3 '^[<>]' "$work/log" | tr '\n' ' ')"
  sort -u "$cache/debian/packages.txt" "$cache/kernel-generic/packages.txt" "$cache/firmware/packages.txt" >"$work/out/packages.txt"
  installed_packages busybox curl dhcpcd jq >"$work/out/build-packages.txt"
  write_annotations "$work/out" pawl-debian "$work/out"/*packages.txt
}

main "$@"
