#!/bin/sh
# Installs packages of Debian, as root. Nothing that is in them is started: on a machine with a
# service manager a package would start its daemon. (At the next boot it does, unless disabled.)
#
#   tests/packages.sh NAME…
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	trap 'exit 130' INT TERM HUP
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod +x "$policy"
fi
apt-get update -q
apt-get install -q -y --no-install-recommends "$@"
