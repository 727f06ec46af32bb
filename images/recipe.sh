# shellcheck shell=dash
# shellcheck disable=SC2154,SC2016  # cache, recipes, parts and compress are set by the recipes; the words in quotes are dpkg's
# What the recipes share. Sourced, never run.

# The date of every file inside an image. Any fixed one would do.
EPOCH=1767225600

# Where the programs of the images are: empty is this machine itself; else the unpacked packages of another architecture.
root=

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
find_program() { find_below '' "$1"; }

# find_below ROOT PROGRAM: its path below ROOT.
find_below() {
  for folder in /usr/sbin /usr/bin /sbin /bin; do
    [ ! -x "$1$folder/$2" ] || { echo "$folder/$2"; return 0; }
  done
  return 1
}

# use_architecture ARCH TOOL...: the programs come from this machine where it is one of that kind, else from what fetch.sh unpacked.
use_architecture() {
  arch=$1
  shift
  machine=$(uname -m | sed 's/^aarch64$/arm64/')
  [ "$arch" != "$machine" ] || return 0
  [ "$arch" = arm64 ] || stop "this machine ($machine) builds images for itself and for arm64 only"
  require readelf:binutils
  root=$cache/tools-$arch/root
  for tool in "$@"; do
    find_below "$root" "$tool" >/dev/null || stop "$cache/tools-$arch has no $tool: run images/fetch.sh $cache tools-$arch first"
  done
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
  install -m 755 "$root$(find_below "$root" busybox)" "$1/usr/bin/busybox"
  # Another architecture's cannot be asked; it is of the same Debian.
  for applet in $(busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$1/usr/bin/$applet"
  done
  # The kernel and switch_root ask for these by path.
  for applet in init modprobe reboot; do ln -s ../bin/busybox "$1/usr/sbin/$applet"; done
  # dhcpcd reads what comes from the network as a user of its own, locked into that empty home.
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n' >"$1/etc/passwd"
  echo 'dhcpcd:x:100:65534:dhcpcd:/usr/lib/dhcpcd:/bin/false' >>"$1/etc/passwd"
  mkdir -p "$1/usr/lib/dhcpcd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$1/etc/group"
  printf 'hosts: files dns\n' >"$1/etc/nsswitch.conf"
  printf '127.0.0.1 localhost\n::1 localhost\n' >"$1/etc/hosts"
  install -m 644 "$recipes/lib/"*.sh "$1/usr/lib/pawl/"
  chmod 755 "$1/usr/lib/pawl/udhcpc.sh" "$1/usr/lib/pawl/dhcpcd.sh" "$1/usr/lib/pawl/identity.sh"
  ln -s ../lib/pawl/identity.sh "$1/usr/sbin/pawl-identity"
}

# add_programs TREE NAME...: each with the libraries it loads, at the paths where the loader looks for them.
add_programs() {
  to=$1
  shift
  for name in "$@"; do
    program=$(find_below "$root" "$name")
    rm -f "$to/usr/bin/$name"
    install -m 755 "$root$program" "$to/usr/bin/$name"
    for library in $(libraries_of "$program"); do
      [ -e "$to$library" ] || install -D -m 755 "$root$library" "$to$library"
    done
  done
}

# libraries_of FILE: what it loads, as paths below $root. Only this machine's own programs can say so themselves.
libraries_of() {
  if [ -z "$root" ]; then
    ldd "$1" | awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^\//) print $i }'
  else
    foreign_libraries "$1" | sort -u
  fi
}

# The loader, and what each file needs by name, from the folders that Debian's loader searches.
foreign_libraries() {
  readelf -l "$root$1" | sed -n 's/.*program interpreter: \(.*\)]/\1/p'
  for wanted in $(readelf -d "$root$1" | sed -n 's/.*(NEEDED).*\[\(.*\)]/\1/p'); do
    for folder in /lib/aarch64-linux-gnu /usr/lib/aarch64-linux-gnu /lib /usr/lib; do
      [ -e "$root$folder/$wanted" ] || continue
      # A library that needs itself in a circle was printed before.
      case " ${seen_libraries-} " in *" $wanted "*) break ;; esac
      seen_libraries="${seen_libraries-} $wanted"
      echo "$folder/$wanted"
      foreign_libraries "$folder/$wanted"
      break
    done
  done
}

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
  add_programs "$tree" curl jq dhcpcd
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
    program=$(find_below "$root" "$name")
    echo "$program"
    [ "$name" = busybox ] || libraries_of "$program"
  done | sort -u | packages_of_files
}

packages_of_files() {
  if [ -n "$root" ]; then
    # The loader's path may be a link that is packed under /usr, or the other way round.
    while read -r file; do
      awk -v file="$file" '$1 == file || "/usr" $1 == file || $1 == "/usr" file { print $2, $3; found = 1; exit }
        END { if (!found) print "missing", file }' "${root%/root}/files"
    done | sort -u >"$work/owners"
    ! grep -q '^missing ' "$work/owners" || stop "no package has $(sed -n 's/^missing //p' "$work/owners" | head -n 1)"
    cat "$work/owners"
    return
  fi
  while read -r file; do
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
