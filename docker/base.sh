#!/bin/sh
# Makes the images that docker/Dockerfile starts from on this machine, where no registry can be
# asked: Debian 12 by debootstrap, and the same with what compiles Quorate: cc, make, perl, and the
# Rust that this machine has. As root, with Docker running; MIRROR is where the packages come from,
# unless debootstrap knows better. See docker/README.md.
#
#   docker/base.sh             quorate-base/debian:12 and quorate-base/rust:12
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

import() {
	name=$1
	shift
	tar -C "$root" -c . | docker import "$@" - "$name"
}

rust=$(rustc --print sysroot)
# shellcheck disable=SC2086
debootstrap --variant=minbase bookworm "$root" ${MIRROR:-}
chroot "$root" apt-get clean
import quorate-base/debian:12

chroot "$root" apt-get install -q -y --no-install-recommends gcc libc6-dev make perl
chroot "$root" apt-get clean
mkdir "$root/usr/local/rust"
cp -a "$rust/bin" "$rust/lib" "$root/usr/local/rust/"
import quorate-base/rust:12 \
	--change 'ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
