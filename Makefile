# The project's commands. `make test` changes nothing; `make fix` does.

.PHONY: test fix bench tools

test: tools
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo test

fix: tools
	cargo clippy --fix --allow-dirty --allow-staged --all-targets
	cargo fmt

# What a cluster reaches beside what the machine allows; about two minutes after the build.
bench:
	cargo build --release
	cargo run --release --example limits

# What Rust needs to check itself; nothing where it is there already. A C compiler, make and perl
# are assumed.
tools:
	@cargo --version >/dev/null || { echo "Rust is needed: see https://rustup.rs" >&2; exit 1; }
	@cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
