#!/bin/sh
# What docker/Dockerfile runs in its build stage: `dependencies`, then, with the sources, `program`.
# Leaves the program at /build/quorate.
set -eu

cargo_build() {
    set -- build --release --locked --bin quorate
    # With the crates' sources in the build context, nothing is fetched.
    if [ -d vendor/actix ]; then
        set -- "$@" --offline \
            --config 'source.crates-io.replace-with="vendored"' \
            --config 'source.vendored.directory="vendor"'
    fi
    cargo "$@"
}

# Some crates build C code; OpenSSL wants more of Perl than a slim image has.
compilers() {
    for program in cc make; do
        command -v "$program" >/dev/null || missing=yes
    done
    perl -MIPC::Cmd -e 1 2>/dev/null || missing=yes
    if [ -n "${missing:-}" ]; then
        apt-get update
        apt-get install -y --no-install-recommends gcc libc6-dev make perl
    fi
}

dependencies() {
    compilers
    # The tests and examples that the manifest names are not in the build context.
    sed -i '/^\[\[\(test\|example\)\]\]/,/^$/d' Cargo.toml
    mkdir -p src
    echo 'fn main() {}' >src/main.rs
    : >src/lib.rs
    cargo_build
}

program() {
    # Newer than what was built of the empty ones.
    touch src/main.rs src/lib.rs
    cargo_build
    cp target/release/quorate quorate
}

if [ -f dist/quorate ]; then
    # Somebody built it already, for a runtime image like this one.
    cp dist/quorate quorate
else
    "$1"
fi
