#!/bin/sh
# Builds the two images from what fetch.sh downloaded and from Debian packages of this machine. No root is needed.
#
#   images/build.sh --cache DIR --out DIR
#
# DIR/stage2/{vmlinuz,initramfs}                        the minimal Linux with the stage-2 agent
# DIR/stage3/{vmlinuz,initramfs,filesystem.squashfs}    the initramfs that fetches its root, and a small demo system
#
# Reproducible: with the same packages and recipes the same bytes, whatever the folder, the umask or the time. Nothing of a site is
# in them (its CA comes with the handover), so one build serves every site.
set -eu
umask 022
export LC_ALL=C TZ=UTC
# The date of every file inside. Any fixed one would do.
EPOCH=1767225600
unset SOURCE_DATE_EPOCH # mksquashfs refuses it beside -all-time

recipes=$(cd "$(dirname "$0")" && pwd)

main() {
  cache='' out=''
  while [ $# -gt 0 ]; do
    case $1 in
      --cache) cache=${2-} ;;
      --out) out=${2-} ;;
      *) stop "unknown option \"$1\": usage: images/build.sh --cache DIR --out DIR" ;;
    esac
    shift $(($# > 1 ? 2 : 1))
  done
  if [ -z "$cache" ] || [ -z "$out" ]; then stop 'usage: images/build.sh --cache DIR --out DIR'; fi
  check_tools
  [ -e "$cache/kernel/version" ] || stop "no kernel in $cache: run images/fetch.sh $cache first"
  mkdir -p "$out"
  out=$(cd "$out" && pwd)
  cache=$(cd "$cache" && pwd)
  work=$(mktemp -d "$out/.build.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 1' HUP INT TERM
  prepare_kernel
  build_stage2
  build_stage3
  for stage in stage2 stage3; do
    rm -rf "${out:?}/$stage"
    mv -T "$work/out/$stage" "$out/$stage"
  done
}

# Names the package to install, not only the program that is missing.
check_tools() {
  missing=
  for tool in busybox:busybox-static curl:curl kexec:kexec-tools jq:jq nft:nftables cpio:cpio mksquashfs:squashfs-tools xz:xz-utils; do
    find_program "${tool%:*}" >/dev/null || missing="$missing ${tool#*:}"
  done
  [ -z "$missing" ] || stop "missing packages: apt-get install -y --no-install-recommends$missing"
  # A dynamic busybox would need its libraries before anything is there.
  ! ldd "$(find_program busybox)" >/dev/null 2>&1 || stop 'busybox is not static: apt-get install -y busybox-static'
}

# sbin is not on every user's PATH.
find_program() {
  for folder in /usr/sbin /usr/bin /sbin /bin; do
    [ ! -x "$folder/$1" ] || { echo "$folder/$1"; return 0; }
  done
  return 1
}

prepare_kernel() {
  release=$(cd "$cache/kernel/lib/modules" && ls)
  modules=$work/kernel/lib/modules/$release
  mkdir -p "$modules"
  cp -R "$cache/kernel/lib/modules/$release/kernel" "$modules/"
  # Newer kernels come with compressed modules; busybox modprobe wants them plain.
  find "$modules" -name '*.ko.xz' -exec xz -d {} +
  # There is no modules.dep in an unpacked package.
  busybox depmod -b "$work/kernel" "$release"
  for stage in stage2 stage3; do
    mkdir -p "$work/out/$stage"
    cp "$cache/kernel/boot/vmlinuz-$release" "$work/out/$stage/vmlinuz"
    chmod 644 "$work/out/$stage/vmlinuz"
  done
}

build_stage2() {
  tree=$work/stage2
  base_tree "$tree"
  add_programs "$tree" curl kexec jq
  add_modules "$tree" "$recipes/stage2/modules"
  install -m 755 "$recipes/stage2/init" "$tree/init"
  pack_initramfs "$tree" "$work/out/stage2/initramfs"
}

build_stage3() {
  tree=$work/stage3
  base_tree "$tree"
  add_programs "$tree" curl jq
  add_modules "$tree" "$recipes/stage2/modules" "$recipes/stage3/modules"
  install -m 755 "$recipes/stage3/init" "$tree/init"
  pack_initramfs "$tree" "$work/out/stage3/initramfs"

  tree=$work/filesystem
  base_tree "$tree"
  add_programs "$tree" curl jq nft
  add_modules "$tree" "$recipes/stage2/modules" "$recipes/stage3/modules"
  install -m 755 "$recipes/filesystem/agent" "$tree/usr/lib/pawl/agent"
  install -m 644 "$recipes/filesystem/inittab" "$tree/etc/inittab"
  mkdir -p "$tree/root" "$tree/var" "$tree/tmp" "$tree/home"
  chmod 700 "$tree/root"
  mksquashfs "$tree" "$work/out/stage3/filesystem.squashfs" -noappend -no-progress -quiet -no-xattrs -all-root \
    -comp zstd -mkfs-time "$EPOCH" -all-time "$EPOCH" >"$work/log" 2>&1 || stop "mksquashfs: $(tail -n 1 "$work/log")"
  chmod 644 "$work/out/stage3/filesystem.squashfs"
}

# base_tree TREE: folders, busybox under all its names, accounts, the agents' shared files.
base_tree() {
  mkdir -p "$1/dev" "$1/proc" "$1/sys" "$1/run" "$1/etc" "$1/usr/bin" "$1/usr/sbin" "$1/usr/lib/pawl" "$1/usr/lib64"
  for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$1/$folder"; done
  install -m 755 "$(find_program busybox)" "$1/usr/bin/busybox"
  for applet in $(busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$1/usr/bin/$applet"
  done
  # The kernel and switch_root ask for these by path.
  for applet in init modprobe reboot; do ln -s ../bin/busybox "$1/usr/sbin/$applet"; done
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n' >"$1/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$1/etc/group"
  printf 'hosts: files dns\n' >"$1/etc/nsswitch.conf"
  printf '127.0.0.1 localhost\n::1 localhost\n' >"$1/etc/hosts"
  install -m 644 "$recipes/lib/agent.sh" "$recipes/lib/transfer.sh" "$1/usr/lib/pawl/"
  install -m 755 "$recipes/lib/udhcpc.sh" "$1/usr/lib/pawl/udhcpc.sh"
}

# add_programs TREE NAME...: each with the libraries it loads, at the paths where the loader looks for them.
add_programs() {
  to=$1
  shift
  for name in "$@"; do
    program=$(find_program "$name")
    rm -f "$to/usr/bin/$name"
    install -m 755 "$program" "$to/usr/bin/$name"
    for library in $(ldd "$program" | awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^\//) print $i }'); do
      [ -e "$to$library" ] || install -D -m 755 "$library" "$to$library"
    done
  done
}

# add_modules TREE LIST...: what the lists name, with all they need, and the index modprobe reads.
add_modules() {
  to=$1
  shift
  sed 's/#.*//' "$@" | awk 'NF { print $1 }' | while read -r wanted; do
    case $wanted in
      */) grep "^$wanted" "$modules/modules.dep" || : ;;
      *) grep "/$(echo "$wanted" | sed 's/[-_]/[-_]/g')\.ko:" "$modules/modules.dep" || : ;;
    esac
  done | tr -d : | tr ' ' '\n' | sort -u | while read -r file; do
    [ -z "$file" ] || install -D -m 644 "$modules/$file" "$to/usr/lib/modules/$release/$file"
  done
  busybox depmod -b "$to" "$release"
  # Only for lookups by symbol, which nothing here does.
  rm -f "$to/usr/lib/modules/$release/modules.symbols"
  # depmod writes in the order in which the folder lists its files.
  for index in modules.dep modules.alias; do
    sort -o "$to/usr/lib/modules/$release/$index" "$to/usr/lib/modules/$release/$index"
  done
}

pack_initramfs() {
  find "$1" -exec touch -h -d "@$EPOCH" {} +
  (cd "$1" && find . | sort | cpio --quiet -o -H newc --reproducible -R 0:0) | gzip -n >"$2" || stop "cannot pack $2"
}

stop() {
  printf 'error: %s\n' "$1" >&2
  exit 1
}

main "$@"
