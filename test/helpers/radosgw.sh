#!/bin/sh
# A Ceph cluster of one: monitor, one object storage daemon, one S3 gateway. Runs in the empty folder $1 until its standard
# input closes, then removes it. $2 and $3 are ports of loopback, for the monitor and for S3; $4 and $5 the S3 keys.
set -eu
folder=$1 monitor=$2 port=$3
cd "$folder"
fsid=$(cat /proc/sys/kernel/random/uuid)
osd=$(cat /proc/sys/kernel/random/uuid)
export CEPH_CONF="$folder/ceph.conf" CEPH_ARGS=

cat >ceph.conf <<END
[global]
fsid = $fsid
mon host = v2:127.0.0.1:$monitor
mon initial members = a
auth allow insecure global id reclaim = false
keyring = $folder/keyring
run dir = $folder
admin socket =
log file = /dev/null
mon cluster log file = /dev/null
log to stderr = true
err to stderr = true
mon data = $folder/mon
osd data = $folder/osd
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
bluestore block size = 21474836480
osd memory target = 268435456
public addr = 127.0.0.1
rgw frontends = beast endpoint=127.0.0.1:$port
rgw enable usage log = false
END

pids=
stop() {
  trap - EXIT
  for pid in $pids; do kill -9 "$pid" 2>/dev/null || true; done
  wait
  cd /
  rm -rf "$folder"
}
trap stop EXIT

ceph-authtool --create-keyring keyring --gen-key -n mon. --cap mon 'allow *' >/dev/null
ceph-authtool keyring --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
monmaptool --create --addv a "[v2:127.0.0.1:$monitor]" --fsid "$fsid" monmap >/dev/null
mkdir mon osd
ceph-mon --mkfs -i a --monmap monmap --keyring keyring >mon-mkfs.log 2>&1
ceph-mon -i a -f >mon.log 2>&1 &
pids="$!"
ceph-authtool keyring --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
ceph auth add osd.0 -i keyring >/dev/null 2>&1
ceph osd new "$osd" >/dev/null
ceph-osd -i 0 --mkfs --osd-uuid "$osd" >osd-mkfs.log 2>&1
ceph-osd -i 0 -f >osd.log 2>&1 &
pids="$pids $!"
radosgw-admin user create --uid pawl --display-name pawl --access-key "$4" --secret-key "$5" >user.log 2>&1
radosgw -n client.admin -f >rgw.log 2>&1 &
pids="$pids $!"
until curl -s -o /dev/null "http://127.0.0.1:$port"; do
  kill -0 "$!"
  sleep 0.1
done
echo ready
cat >/dev/null
