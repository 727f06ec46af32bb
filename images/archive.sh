# shellcheck shell=dash
# shellcheck disable=SC2154,SC2034  # work, pins, architecture and recipes are set by fetch.sh, which uses version
# How fetch.sh talks to Debian's archive. Sourced, never run.
#
# apt runs with a configuration of its own below $work: nothing is installed, nothing of this machine's apt is touched, and no root is
# needed. apt checks Debian's signatures as always. With $pins, a recorded list of packages, it takes those versions.

# isolate_apt SUITE [COMPONENTS [with-security]]: from here on apt knows only this suite of Debian, for $architecture where it is set.
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
  write_source "$mirror" "$1" "${2:-main}" >"$apt/etc/suite.sources"
  if [ -n "${3-}" ]; then
    security=${PAWL_SECURITY_MIRROR:-$(machine_mirror -security)}
    [ -z "$security" ] || write_source "$security" "$1-security" "${2:-main}" >"$apt/etc/security.sources"
  fi
  : >"$apt/status"
  {
    echo 'Dir::Etc::SourceList "/dev/null";'
    echo "Dir::Etc::SourceParts \"$apt/etc\";"
    echo "Dir::State::Lists \"$apt/lists\";"
    # As on a machine without a single package.
    echo "Dir::State::status \"$apt/status\";"
    echo "Dir::Cache \"$apt/cache\";"
    echo 'Acquire::Languages "none";'
    [ -z "$architecture" ] || printf 'APT::Architecture "%s";\nAPT::Architectures { "%s"; };\n' "$architecture" "$architecture"
    echo 'Acquire::Retries "3";'
    # An archive of the day of the list has expired long ago; what is taken from it is compared with the list.
    [ -z "$pins" ] || echo 'Acquire::Check-Valid-Until "false";'
  } >"$apt/apt.conf"
  export APT_CONFIG="$apt/apt.conf"
  apt-get update -qq >"$work/log" 2>&1 || stop "cannot read Debian $1 from $mirror: $(first_error)"
  # apt-get update ends with 0 when a mirror did not answer at all.
  ! grep -q '^[WE]: Failed to fetch' "$work/log" || stop "cannot read Debian $1 from $mirror: $(first_error)"
}

write_source() {
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: %s\nTargets: Packages\nSigned-By: %s\n' "$1" "$2" "$3" "$keyring"
}

# download PACKAGE SUITE: into $work/unpacked; sets $package and $version, and notes it in $work/packages.txt.
download() {
  package=$1
  (cd "$work" && apt-get download -qq "$(pinned "$package")") >"$work/log" 2>&1 ||
    stop "package $(pinned "$package") of Debian $2 cannot be downloaded: $(first_error)"
  for deb in "$work"/*.deb; do
    version=$(dpkg-deb -f "$deb" Version) || stop "package $package of Debian $2 is damaged"
    dpkg-deb -x "$deb" "$work/unpacked" || stop "package $package of Debian $2 is damaged"
    describe_deb "$deb" >>"$work/packages.txt"
    rm "$deb"
  done
}


# pinned PACKAGE: the package, with the version of the recorded list where there is one.
pinned() {
  if [ -n "$pins" ]; then
    awk -v name="$1" '{ split($1, part, "=") } part[1] == name { print $1; found = 1; exit } END { if (!found) print name }' "$pins"
  else
    echo "$1"
  fi
}

# unlisted_in FILE: the first of these packages that the recorded list does not have with these bytes.
unlisted_in() { sort "$pins" | comm -13 - "$1" | head -n 1; }

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
