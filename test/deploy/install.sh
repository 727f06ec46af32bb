#!/bin/sh
# Installs an older package and then a newer one on an overlay over this machine's root: nothing of it outlives the mounts.
set -eu

work=$(mktemp -d)
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"
mount -t proc proc "$work/root/proc"
mount --rbind /dev "$work/root/dev"
cp "$1" "$work/root/older.deb"
cp "$2" "$work/root/newer.deb"
trap 'umount -l "$work"; rmdir "$work"' EXIT

cat >"$work/root/try.sh" <<'TRY'
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
rm -f /run/systemd/system || true
dpkg -i /older.deb
echo "user: $(getent passwd pawl | cut -d: -f1)"
echo "folder: $(stat -c '%a %U' /var/lib/pawl)"
as() { runuser -u pawl -- "$@"; }
as pawl init --data /var/lib/pawl --name boot.example.test >/dev/null && echo 'init: ok'
# Not by the function: its shell would be what is ended, and the server go on.
runuser -u pawl -- pawl server --data /var/lib/pawl --boot-listen 127.0.0.1:0 --operator-listen 127.0.0.1:0 >/tmp/ready 2>/tmp/log &
server=$!
for _ in $(seq 300); do grep -q '"event":"ready"' /tmp/ready && break; sleep 0.2; done
grep -q '"event":"ready"' /tmp/ready && echo 'server: ready'
as pawl node add node1 --data /var/lib/pawl >/dev/null && echo 'node: ok'
kill "$server"; wait "$server" || true
echo '# mine' >>/etc/default/pawl
dpkg -i --force-confold /newer.deb >/dev/null
[ "$(dpkg-query -W -f '${Version}' pawl)" != 0.1.9 ] && as pawl --version >/dev/null && echo 'upgraded: ok'
tail -1 /etc/default/pawl | grep -q '# mine' && echo 'conffile: kept'
code=0; as pawl doctor --data /var/lib/pawl --public-url https://127.0.0.1:8443 >/tmp/doctor 2>&1 || code=$?
[ "$code" = 0 ] || cat /tmp/doctor >&2
echo "doctor: $code"
dpkg -r pawl >/dev/null
[ -e /var/lib/pawl/ca.crt ] && echo 'removed: data kept'
dpkg -P pawl >/dev/null 2>&1
[ -e /var/lib/pawl ] || echo 'purged: gone'
TRY
chroot "$work/root" sh /try.sh
