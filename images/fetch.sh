#!/bin/sh
# Downloads what the images and the boot tests need from Debian: kernels, firmware, packages, and iPXE as Debian built it.
# Nothing is installed and no root is needed.
#
#   images/fetch.sh [--refresh] [--packages FILE] CACHE_DIR [PART...]      (default: kernel ipxe-trixie ipxe-sid)
#
# CACHE_DIR/kernel          boot/vmlinuz-*, lib/modules/*: Debian's cloud kernel, with drivers for virtual machines only
# CACHE_DIR/kernel-generic  the same of linux-image-amd64, with drivers for real servers
# CACHE_DIR/firmware        lib/firmware/*: what network adapters load, from non-free-firmware
# CACHE_DIR/debian          debs/*.deb: every package of the Debian stage 3 (the list is debian/packages)
# CACHE_DIR/ipxe-trixie     ipxe-amd64.efi, ipxe-arm64.efi, snponly.efi, undionly.kpxe, ipxe.lkrn   (iPXE 1.21.1)
# CACHE_DIR/ipxe-sid        the same of iPXE 2.0.0
#
# For arm64:
# CACHE_DIR/kernel-arm64, kernel-generic-arm64   as above, of linux-image-cloud-arm64 and linux-image-arm64
# CACHE_DIR/tools-arm64     root/: the programs of the images and all they need, unpacked; files: which package each file is of
#
# Each has a file "version", and packages.txt: a line NAME=VERSION ARCHITECTURE SHA256 for each package. A part that is there
# already is kept; --refresh asks Debian again. A part appears only when it is complete.
# --packages FILE fetches exactly what such a list names, as the build of an image leaves one beside it. An ordinary mirror has the
# newest versions only: for older ones name a mirror of that day.
#
# Settings (environment): PAWL_DEBIAN_MIRROR and PAWL_SECURITY_MIRROR (else read from this machine's apt sources),
# PAWL_KERNEL_PACKAGE (linux-image-cloud-amd64; part kernel only), PAWL_DEBIAN_SUITE (bookworm).
set -eu
umask 022
export LC_ALL=C

recipes=$(cd "$(dirname "$0")" && pwd)
suite=${PAWL_DEBIAN_SUITE:-bookworm}
parts='kernel kernel-generic kernel-arm64 kernel-generic-arm64 tools-arm64 firmware debian ipxe-trixie ipxe-sid'
# The packages whose programs build.sh puts into the images.
tools='busybox-static curl dhcpcd-base jq kexec-tools nftables openssl'
# Those of network adapters that a server has. What no driver of the kernel names is left out of the images. Not firmware-netronome:
# for few machines it would be more than all the others together.
firmware='firmware-bnx2 firmware-bnx2x firmware-cavium firmware-misc-nonfree firmware-myricom firmware-netxen firmware-qlogic
  firmware-realtek'

# shellcheck source-path=SCRIPTDIR source=recipe.sh
. "$recipes/recipe.sh"
# shellcheck source-path=SCRIPTDIR source=archive.sh
. "$recipes/archive.sh"

main() {
  refresh='' pins=''
  while :; do
    case ${1-} in
      --refresh) refresh=yes && shift ;;
      --packages)
        [ -r "${2-}" ] || stop "cannot read the list of packages \"${2-}\""
        pins=$2 && shift 2
        ;;
      *) break ;;
    esac
  done
  [ $# -ge 1 ] || stop "usage: images/fetch.sh [--refresh] [--packages FILE] CACHE_DIR [$(echo "$parts" | tr ' ' '|') ...]"
  mkdir -p "$1"
  cache=$(cd "$1" && pwd)
  shift
  [ $# -ge 1 ] || set -- kernel ipxe-trixie ipxe-sid
  for tool in apt-get apt-cache dpkg-deb awk; do
    command -v "$tool" >/dev/null || stop "fetching needs $tool: this recipe runs on Debian"
  done
  for part in "$@"; do
    ! is_kept || continue
    replacing='' architecture=''
    [ ! -e "$cache/$part" ] || replacing=yes
    make_work "$cache/.fetch.XXXXXX"
    # apt's download user must be able to enter, or apt warns and downloads as root.
    chmod 755 "$work"
    case $part in
      kernel) fetch_kernel "${PAWL_KERNEL_PACKAGE:-linux-image-cloud-amd64}" ;;
      kernel-generic) fetch_kernel linux-image-amd64 ;;
      kernel-arm64) architecture=arm64 && fetch_kernel linux-image-cloud-arm64 ;;
      kernel-generic-arm64) architecture=arm64 && fetch_kernel linux-image-arm64 ;;
      tools-arm64) architecture=arm64 && fetch_tools ;;
      firmware) fetch_firmware ;;
      debian) fetch_debian ;;
      ipxe-trixie) fetch_ipxe trixie ;;
      ipxe-sid) fetch_ipxe sid ;;
      *) stop "unknown part \"$part\": one of $parts" ;;
    esac
    publish
    rm -rf "$work"
  done
}

# Whether a part is there as it is wanted.
is_kept() {
  [ -z "$refresh" ] && [ -e "$cache/$part/version" ] || return 1
  case $part in
    ipxe-*) [ -e "$cache/$part/ipxe-arm64.efi" ] && return 0 || return 1 ;;
    # Another version of the recipes wanted other programs.
    tools-*) [ "$(cat "$cache/$part/wanted" 2>/dev/null)" = "$tools" ] || return 1 ;;
  esac
  [ -e "$cache/$part/packages.txt" ] || return 1
  if [ -n "$pins" ]; then
    [ -z "$(unlisted_in "$cache/$part/packages.txt")" ]
  else
    [ "$part" != debian ] || cmp -s "$recipes/debian/packages" "$cache/debian/wanted"
  fi
}

fetch_kernel() {
  isolate_apt "$suite" main with-security
  # The meta package only names the package of the newest build. A list names the build.
  package=
  [ -z "$pins" ] || package=$(sed -n 's/^\(linux-image-[0-9][^=]*\)=.*/\1/p' "$pins" | head -n 1)
  [ -n "$package" ] ||
    package=$(apt-cache depends "$1" 2>/dev/null | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
  [ -n "$package" ] || stop "Debian $suite has no kernel package $1"
  download "$package" "$suite"
  mkdir "$work/part"
  mv "$work/unpacked/boot" "$work/unpacked/lib" "$work/part/" 2>/dev/null ||
    { mkdir "$work/part/lib" && mv "$work/unpacked/boot" "$work/part/" && mv "$work/unpacked/usr/lib/modules" "$work/part/lib/"; }
}

fetch_firmware() {
  isolate_apt "$suite" non-free-firmware with-security
  for name in $firmware; do download "$name" "$suite"; done
  mkdir -p "$work/part/lib"
  mv "$work/unpacked/lib/firmware" "$work/part/lib/" 2>/dev/null || mv "$work/unpacked/usr/lib/firmware" "$work/part/lib/"
  package='firmware of network adapters'
}

# The programs of the images for another architecture than this machine's, with all they need. Nothing of them is run here.
fetch_tools() {
  isolate_apt "$suite" main with-security
  wanted=
  for name in $tools; do wanted="$wanted $(pinned "$name")"; done
  # shellcheck disable=SC2086  # a list of packages
  apt-get install -qq --yes --no-install-recommends -o Debug::NoLocking=yes --download-only $wanted >"$work/log" 2>&1 ||
    stop "the programs of the images cannot be downloaded for $architecture: $(first_error)"
  mkdir -p "$work/part/root"
  for deb in "$apt"/cache/archives/*.deb; do
    dpkg-deb -x "$deb" "$work/part/root" || stop "$deb is damaged"
    line=$(describe_deb "$deb")
    echo "$line" >>"$work/packages.txt"
    # As the package has it: ./usr/bin/curl, and no folders.
    dpkg-deb --fsys-tarfile "$deb" | tar -t | sed -n "s|^\.\(/.*[^/]\)\$|\1 ${line% *}|p" >>"$work/part/files"
  done
  sort -o "$work/part/files" "$work/part/files"
  echo "$tools" >"$work/part/wanted"
  package="programs for $architecture" version="$(wc -l <"$work/packages.txt") packages"
}

# All packages of the Debian stage 3 and all they need, as if for an empty machine.
fetch_debian() {
  isolate_apt "$suite" main with-security
  wanted='?essential'
  for name in $(words_of "$recipes/debian/packages"); do wanted="$wanted $(pinned "$name")"; done
  [ -z "$pins" ] || wanted=$(sed -e '/^linux-image-/d' -e '/^firmware-/d' -e 's/ .*//' "$pins")
  # shellcheck disable=SC2086  # a list of words
  set -- install -qq --yes --no-install-recommends -o Debug::NoLocking=yes $wanted
  apt-get "$@" --print-uris 2>"$work/log" | awk '{ print $2 }' >"$work/files"
  [ -s "$work/files" ] || stop "the packages of the Debian stage 3 cannot be found: $(first_error)"
  # What is there from before is not downloaded again; apt compares its digest.
  while read -r file; do
    [ ! -e "$cache/debian/debs/$file" ] || cp "$cache/debian/debs/$file" "$apt/cache/archives/"
  done <"$work/files"
  apt-get "$@" --download-only >"$work/log" 2>&1 ||
    stop "the packages of the Debian stage 3 cannot be downloaded: $(first_error)"
  mkdir -p "$work/part/debs"
  while read -r file; do
    mv "$apt/cache/archives/$file" "$work/part/debs/"
    describe_deb "$work/part/debs/$file" >>"$work/packages.txt"
  done <"$work/files"
  cp "$recipes/debian/packages" "$work/part/wanted"
  package="Debian $suite" version="$(wc -l <"$work/files") packages"
}

fetch_ipxe() {
  pins='' # the images have nothing of it
  isolate_apt "$1"
  download ipxe "$1"
  mkdir "$work/part"
  for file in ipxe-amd64.efi ipxe-arm64.efi snponly.efi undionly.kpxe ipxe.lkrn; do
    cp "$work/unpacked/usr/lib/ipxe/$file" "$work/part/" || stop "package ipxe of Debian $1 has no $file"
  done
}

# Moves the finished part into place by one rename. Another process may have been first: then its copy stays.
publish() {
  sort -o "$work/packages.txt" "$work/packages.txt"
  if [ -n "$pins" ] && [ -n "$(unlisted_in "$work/packages.txt")" ]; then
    stop "the list of packages has no $(unlisted_in "$work/packages.txt")"
  fi
  mv "$work/packages.txt" "$work/part/"
  echo "$suite" >"$work/part/suite"
  printf '%s %s\n' "$package" "$version" >"$work/part/version"
  [ -z "$replacing" ] || mv -T "$cache/$part" "$work/old"
  mv -T "$work/part" "$cache/$part" 2>/dev/null || [ -e "$cache/$part/version" ] || stop "cannot write $cache/$part"
  printf 'fetched %s: %s %s\n' "$part" "$package" "$version" >&2
}

main "$@"
