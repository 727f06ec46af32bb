#!/bin/sh
# Downloads what the images and the boot tests need from Debian: a kernel, and iPXE as Debian built it.
# Nothing is installed and no root is needed: apt runs with a configuration of its own in a temporary folder, and the
# packages are only unpacked. apt checks Debian's signatures as always.
#
#   images/fetch.sh [--refresh] CACHE_DIR [PART...]      PART: kernel ipxe-trixie ipxe-sid (default: all)
#
# CACHE_DIR/kernel        boot/vmlinuz-*, lib/modules/*, version
# CACHE_DIR/ipxe-trixie   ipxe-amd64.efi, snponly.efi, undionly.kpxe, ipxe.lkrn, version   (iPXE 1.21.1)
# CACHE_DIR/ipxe-sid      the same of iPXE 2.0.0
#
# A part that is there already is kept; --refresh asks Debian again. A part appears only when it is complete.
#
# Settings (environment): PAWL_DEBIAN_MIRROR and PAWL_SECURITY_MIRROR (else read from this machine's apt sources),
# PAWL_KERNEL_PACKAGE (linux-image-cloud-amd64; linux-image-amd64 has drivers for real hardware),
# PAWL_KERNEL_SUITE (bookworm).
set -eu
umask 022
export LC_ALL=C

KERNEL_PACKAGE=${PAWL_KERNEL_PACKAGE:-linux-image-cloud-amd64}
KERNEL_SUITE=${PAWL_KERNEL_SUITE:-bookworm}

main() {
  refresh=
  [ "${1-}" != --refresh ] || { refresh=yes; shift; }
  [ $# -ge 1 ] || stop 'usage: images/fetch.sh [--refresh] CACHE_DIR [kernel|ipxe-trixie|ipxe-sid ...]'
  mkdir -p "$1"
  cache=$(cd "$1" && pwd)
  shift
  [ $# -ge 1 ] || set -- kernel ipxe-trixie ipxe-sid
  for tool in apt-get apt-cache dpkg-deb awk; do
    command -v "$tool" >/dev/null || stop "fetching needs $tool: this recipe runs on Debian"
  done
  for part in "$@"; do
    if [ -z "$refresh" ] && [ -e "$cache/$part/version" ]; then continue; fi
    work=$(mktemp -d "$cache/.fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    # apt's download user must be able to enter, or apt warns and downloads as root.
    chmod 755 "$work"
    case $part in
      kernel) fetch_kernel ;;
      ipxe-trixie) fetch_ipxe trixie ;;
      ipxe-sid) fetch_ipxe sid ;;
      *) stop "unknown part \"$part\": kernel, ipxe-trixie or ipxe-sid" ;;
    esac
    publish "$part"
    rm -rf "$work"
    trap - EXIT
  done
}

fetch_kernel() {
  isolate_apt "$KERNEL_SUITE" with-security
  # The meta package only names the package of the newest build.
  package=$(apt-cache depends "$KERNEL_PACKAGE" 2>/dev/null | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
  [ -n "$package" ] || stop "Debian $KERNEL_SUITE has no kernel package $KERNEL_PACKAGE"
  download "$package" "$KERNEL_SUITE"
  mkdir "$work/part"
  mv "$work/unpacked/boot" "$work/unpacked/lib" "$work/part/" 2>/dev/null ||
    { mkdir "$work/part/lib" && mv "$work/unpacked/boot" "$work/part/" && mv "$work/unpacked/usr/lib/modules" "$work/part/lib/"; }
}

fetch_ipxe() {
  isolate_apt "$1"
  download ipxe "$1"
  mkdir "$work/part"
  for file in ipxe-amd64.efi snponly.efi undionly.kpxe ipxe.lkrn; do
    cp "$work/unpacked/usr/lib/ipxe/$file" "$work/part/" || stop "package ipxe of Debian $1 has no $file"
  done
}

# Moves the finished part into place by one rename. Another process may have been first: then its copy stays.
publish() {
  printf '%s %s\n' "$package" "$version" >"$work/part/version"
  if [ -n "$refresh" ] && [ -e "$cache/$1" ]; then mv -T "$cache/$1" "$work/old"; fi
  mv -T "$work/part" "$cache/$1" 2>/dev/null || [ -e "$cache/$1/version" ] || stop "cannot write $cache/$1"
  printf 'fetched %s: %s %s\n' "$1" "$package" "$version" >&2
}

# isolate_apt SUITE [with-security]: from here on apt knows only this suite of Debian.
isolate_apt() {
  apt=$work/apt
  mkdir -p "$apt/etc" "$apt/lists/partial" "$apt/cache/archives/partial"
  keyring=
  for file in /usr/share/keyrings/debian-archive-keyring.gpg /usr/share/keyrings/debian-archive-keyring.pgp; do
    [ ! -e "$file" ] || keyring=$file
  done
  [ -n "$keyring" ] || stop 'Debian archive keys are missing: apt-get install debian-archive-keyring'
  mirror=${PAWL_DEBIAN_MIRROR:-$(machine_mirror '')}
  [ -n "$mirror" ] || stop 'no Debian mirror in the apt sources of this machine: set PAWL_DEBIAN_MIRROR=https://HOST/debian'
  write_source "$mirror" "$1" >"$apt/etc/suite.sources"
  if [ -n "${2-}" ]; then
    security=${PAWL_SECURITY_MIRROR:-$(machine_mirror -security)}
    [ -z "$security" ] || write_source "$security" "$1-security" >"$apt/etc/security.sources"
  fi
  {
    echo 'Dir::Etc::SourceList "/dev/null";'
    echo "Dir::Etc::SourceParts \"$apt/etc\";"
    echo "Dir::State::Lists \"$apt/lists\";"
    echo "Dir::Cache \"$apt/cache\";"
    echo 'Acquire::Languages "none";'
    echo 'Acquire::Retries "3";'
  } >"$apt/apt.conf"
  export APT_CONFIG="$apt/apt.conf"
  apt-get update -qq >"$work/log" 2>&1 || stop "cannot read Debian $1 from $mirror: $(first_error)"
  # apt-get update ends with 0 when a mirror did not answer at all.
  ! grep -q '^[WE]: Failed to fetch' "$work/log" || stop "cannot read Debian $1 from $mirror: $(first_error)"
}

write_source() {
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nTargets: Packages\nSigned-By: %s\n' "$1" "$2" "$keyring"
}

# download PACKAGE SUITE: into $work/unpacked; sets $package and $version.
download() {
  package=$1
  (cd "$work" && apt-get download -qq "$package") >"$work/log" 2>&1 ||
    stop "package $package of Debian $2 cannot be downloaded: $(first_error)"
  for deb in "$work"/*.deb; do
    version=$(dpkg-deb -f "$deb" Version) || stop "package $package of Debian $2 is damaged"
    dpkg-deb -x "$deb" "$work/unpacked" || stop "package $package of Debian $2 is damaged"
    rm "$deb"
  done
}

# machine_mirror SUFFIX: the URI from which this machine takes its own suite (SUFFIX is empty, or -security).
machine_mirror() {
  # shellcheck source=/dev/null
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
  for file in /etc/apt/sources.list.d/*.sources /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -r "$file" ] || continue
    case $file in
      *.sources)
        awk -v suite="$codename$1" 'BEGIN { RS = "" } {
          uri = ""; ours = 0; main = 0; count = split($0, lines, "\n")
          for (i = 1; i <= count; i++) {
            fields = split(lines[i], word, /[ \t]+/)
            if (tolower(word[1]) == "uris:") uri = word[2]
            for (f = 2; f <= fields; f++) {
              if (tolower(word[1]) == "suites:" && word[f] == suite) ours = 1
              if (tolower(word[1]) == "components:" && word[f] == "main") main = 1
            }
          }
          if (uri != "" && ours && main) print uri
        }' "$file"
        ;;
      *)
        sed 's/\[[^]]*\]//' "$file" | awk -v suite="$codename$1" '$1 == "deb" && $3 == suite && $4 == "main" { print $2 }'
        ;;
    esac
  done | head -n 1
}

first_error() {
  line=$(grep -m 1 '^E:' "$work/log" || grep -m 1 '^W: Failed' "$work/log" || tail -n 1 "$work/log")
  echo "$line"
}

stop() {
  printf 'error: %s\n' "$1" >&2
  exit 1
}

main "$@"
