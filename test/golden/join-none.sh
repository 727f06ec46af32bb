#!/bin/sh
set -eu
umask 077
mkdir -p /run/pawl
cat >/run/pawl/join <<'END_OF_JOIN'
host=node1
session=6fkH0cTn3JvS
profile=worker
cluster=east
endpoint=[2001:db8::1]:6443
END_OF_JOIN
echo "pawl: join: nothing to join; what a join would have is in /run/pawl/join"
