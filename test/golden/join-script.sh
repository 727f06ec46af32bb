#!/bin/sh
# Profile worker, session 6fkH0cTn3JvS.
set -eu
mkdir -p /run/pawl
folder=$(mktemp -d /run/pawl/join.XXXXXX)
trap 'rm -rf "$folder"' EXIT
trap 'exit 143' HUP INT TERM
base64 -d >"$folder/script" <<'END_OF_SCRIPT'
IyEvYmluL3NoCmVjaG8gJ25vZGUxIGlzIGhlcmUnCg==
END_OF_SCRIPT
(umask 077 && base64 -d >"$folder/secret") <<'END_OF_SECRET'
aHVzaAo=
END_OF_SECRET
PAWL_SECRET_FILE=$folder/secret
export PAWL_SECRET_FILE
PAWL_HOST=node1
export PAWL_HOST
chmod 700 "$folder/script"
"$folder/script"
