# shellcheck shell=dash
# shellcheck disable=SC2154,SC2016  # cache, recipes, parts and compress are set by the recipes; the words in quotes are dpkg's
# What the recipes share. Sourced, never run.

# The date of every file inside an image. Any fixed one would do.
EPOCH=1767225600

stop() {
  printf 'error: %s\n' "$1" >&2
  exit 1
}

# make_work TEMPLATE: a folder of our own, $work, that is gone when the script ends.
make_work() {
  work=$(mktemp -d "$1")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 1' HUP INT TERM
}

# words_of FILE...: the first word of each line, without comments.
words_of() { sed 's/#.*//' "$@" | awk 'NF { print $1 }'; }

# require PROGRAM:PACKAGE...: names the packages to install, not only the programs that are missing.
require() {
  missing=
  for tool in "$@"; do
    find_program "${tool%:*}" >/dev/null || missing="$missing ${tool#*:}"
  done
  [ -z "$missing" ] || stop "missing packages: apt-get install -y --no-install-recommends$missing"
}

# sbin is not on every user's PATH.
find_program() {
  for folder in /usr/sbin /usr/bin /sbin /bin; do
    [ ! -x "$folder/$1" ] || { echo "$folder/$1"; return 0; }
  done
  return 1
}

# --- kernel --------------------------------------------------------------------------------------------------------

# prepare_kernel PART: sets kernel, release, modules and the revision of the recipes; the modules of that part of the cache, plain and with their index.
prepare_kernel() {
  kernel=$cache/$1
  revision=$(recipe_digest)
  release=$(cd "$kernel/lib/modules" && ls)
  modules=$work/kernel/lib/modules/$release
  mkdir -p "$modules"
  cp -R "$kernel/lib/modules/$release/kernel" "$modules/"
  # The index tells modprobe what is part of the kernel itself.
  cp "$kernel/lib/modules/$release"/modules.builtin* "$kernel/lib/modules/$release/modules.order" "$modules/" 2>/dev/null || :
  # Newer kernels come with compressed modules; busybox modprobe wants them plain.
  find "$modules" -name '*.ko.xz' -exec xz -d {} +
  # There is no modules.dep in an unpacked package.
  busybox depmod -b "$work/kernel" "$release"
}

# copy_kernel FOLDER
copy_kernel() {
  mkdir -p "$1"
  install -m 644 "$kernel/boot/vmlinuz-$release" "$1/vmlinuz"
}

# add_modules TREE LIST...: what the lists name, with all they need, and the index modprobe reads.
add_modules() {
  to=$1
  shift
  words_of "$@" | while read -r wanted; do
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

# add_drivers TREE LIST...: modules, and what they load where that was fetched.
add_drivers() {
  add_modules "$@"
  case $parts in *firmware*) add_firmware "$1" ;; esac
}

# add_firmware TREE: the files that the tree's modules name, as far as Debian has them, and nothing else.
add_firmware() {
  find "$1/usr/lib/modules" -name '*.ko' -exec cat {} + | tr '\0' '\n' | sed -n 's/^firmware=//p' | sort -u |
    while read -r file; do
      [ ! -f "$cache/firmware/lib/firmware/$file" ] ||
        install -D -m 644 "$cache/firmware/lib/firmware/$file" "$1/usr/lib/firmware/$file"
    done
}

# --- initramfs -----------------------------------------------------------------------------------------------------

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
  install -m 644 "$recipes/lib/"*.sh "$1/usr/lib/pawl/"
  chmod 755 "$1/usr/lib/pawl/udhcpc.sh"
}

# add_programs TREE NAME...: each with the libraries it loads, at the paths where the loader looks for them.
add_programs() {
  to=$1
  shift
  for name in "$@"; do
    program=$(find_program "$name")
    rm -f "$to/usr/bin/$name"
    install -m 755 "$program" "$to/usr/bin/$name"
    for library in $(libraries_of "$program"); do
      [ -e "$to$library" ] || install -D -m 755 "$library" "$to$library"
    done
  done
}

libraries_of() { ldd "$1" | awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^\//) print $i }'; }

# pack_initramfs TREE FILE: gzip for the small images; zstd, in one thread, for those with hundreds of drivers.
pack_initramfs() {
  find "$1" -exec touch -h -d "@$EPOCH" {} +
  (cd "$1" && find . | sort | cpio --quiet -o -H newc --reproducible -R 0:0) >"$work/cpio" || stop "cannot pack $2"
  case $compress in
    zstd) zstd -q --single-thread -12 -c "$work/cpio" >"$2" ;;
    *) gzip -n <"$work/cpio" >"$2" ;;
  esac
  rm "$work/cpio"
}

# pack_stage3_initramfs FILE: what fetches the filesystem and makes it the root.
pack_stage3_initramfs() {
  tree=$work/stage3
  base_tree "$tree"
  add_programs "$tree" curl jq
  add_drivers "$tree" "$recipes/stage2/modules" "$recipes/stage3/modules"
  install -m 755 "$recipes/stage3/init" "$tree/init"
  pack_initramfs "$tree" "$1"
}

# pack_filesystem TREE FILE
pack_filesystem() {
  mksquashfs "$1" "$2" -noappend -no-progress -quiet -no-xattrs -all-root \
    -comp zstd -mkfs-time "$EPOCH" -all-time "$EPOCH" >"$work/log" 2>&1 || stop "mksquashfs: $(tail -n 1 "$work/log")"
  chmod 644 "$2"
}

# --- what is in them -----------------------------------------------------------------------------------------------

# installed_packages PROGRAM...: a line NAME=VERSION ARCHITECTURE for each package of this machine that they and their libraries
# come from.
installed_packages() {
  for name in "$@"; do
    program=$(find_program "$name")
    echo "$program"
    [ "$name" = busybox ] || libraries_of "$program"
  done | sort -u | while read -r file; do
    # dpkg knows a file by the path it was packed under, before /lib became a part of /usr.
    dpkg-query -S "$file" 2>/dev/null || dpkg-query -S "/usr$file" 2>/dev/null || dpkg-query -S "${file#/usr}" 2>/dev/null ||
      stop "$file is in no Debian package"
  done | sed 's/: .*//' | sort -u | xargs dpkg-query -W -f '${Package}=${Version} ${Architecture}\n'
}

# write_annotations FOLDER RECIPE LIST...: what a manifest says about an image, from lists of packages; for
# `pawl image publish --annotations FOLDER/annotations.json`.
# The bill of materials is a CycloneDX document; scanners find Debian packages by their purl.
write_annotations() {
  folder=$1 recipe=$2
  [ "$(recipe_digest)" = "$revision" ] || stop 'the recipes were changed while they ran: build again'
  shift 2
  # Who packed the builder's own packages is not known: not to be taken for Debian's of the same name.
  awk '{ print $1, $2, (FILENAME ~ /extra-packages/ ? "unknown" : "debian") }' "$@" | sort -u | jq -R -s -c --arg recipe "$recipe" --arg revision "$revision" --arg suite "$(cat "$kernel/suite")" --arg kernel "$release" '
    def purl: "pkg:deb/\(.vendor)/\(.name | @uri)@\(.version | @uri)?arch=\(.arch)&distro=\($suite)";
    [split("\n")[] | select(. != "") | capture("^(?<name>[^=]+)=(?<version>[^ ]+) (?<arch>[^ ]+) (?<vendor>[^ ]+)")] as $packages |
    { bomFormat: "CycloneDX", specVersion: "1.6", version: 1,
      metadata: { component: { type: "operating-system", name: $recipe, version: $revision } },
      components: [$packages[] | { type: "library", name, version, purl: purl }] } as $bom |
    { "recipe.name": $recipe, "recipe.digest": "sha256:\($revision)", "kernel.release": $kernel, "debian.suite": $suite,
      "sbom.format": "CycloneDX 1.6 JSON", "sbom.cyclonedx": ($bom | tojson) }
  ' >"$folder/annotations.json" || stop "cannot describe $folder"
}

# Over all files of the recipes, by name and bytes; not over what documents them.
recipe_digest() {
  (cd "$recipes" && find . -type f ! -name '*.md' -exec sha256sum {} + | sort -k 2 | sha256sum | cut -d' ' -f1)
}

# describe_deb FILE: its line in a list: NAME=VERSION ARCHITECTURE SHA256.
describe_deb() {
  printf '%s %s\n' "$(dpkg-deb -W --showformat '${Package}=${Version} ${Architecture}' "$1")" "$(sha256sum "$1" | cut -d' ' -f1)"
}
