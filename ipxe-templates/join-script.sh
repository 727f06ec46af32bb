{%- comment -%}
Runs the script of a profile. It is carried as base64, so that nothing in it can mean anything to this one. A secret is in a
file that only root can read, and whose name the script is told; it goes when the script ends.

host: the node
session: the boot session
profile: the node's profile
script: the script, base64
secret: what the script needs, base64, or nothing
{%- endcomment -%}
#!/bin/sh
# Profile {{ profile }}, session {{ session }}.
set -eu
mkdir -p /run/pawl
folder=$(mktemp -d /run/pawl/join.XXXXXX)
trap 'rm -rf "$folder"' EXIT
trap 'exit 143' HUP INT TERM
base64 -d >"$folder/script" <<'END_OF_SCRIPT'
{{ script }}
END_OF_SCRIPT
{% if secret != "" -%}
(umask 077 && base64 -d >"$folder/secret") <<'END_OF_SECRET'
{{ secret }}
END_OF_SECRET
PAWL_SECRET_FILE=$folder/secret
export PAWL_SECRET_FILE
{% endif -%}
PAWL_HOST={{ host }}
export PAWL_HOST
chmod 700 "$folder/script"
"$folder/script"
