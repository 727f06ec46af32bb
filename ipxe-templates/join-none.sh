{%- comment -%}
Joins nothing: writes down what a join would have had.

host: the node
session: the boot session
profile: the node's profile
settings: the profile's join settings, a list of name and value
{%- endcomment -%}
#!/bin/sh
set -eu
umask 077
mkdir -p /run/pawl
cat >/run/pawl/join <<'END_OF_JOIN'
host={{ host }}
session={{ session }}
profile={{ profile }}
{% for setting in settings -%}
{{ setting.name }}={{ setting.value }}
{% endfor -%}
END_OF_JOIN
echo "pawl: join: nothing to join; what a join would have is in /run/pawl/join"
