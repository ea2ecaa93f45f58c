# The project's commands. `make test` changes nothing in the project; `make fix` does.

.PHONY: test fix bench faults soak mutants tools rust

# What the tests drive beside Quorate itself: the program, and the Debian package it comes in.
PROGRAMS = ip:iproute2 nft:nftables faketime:faketime strace:strace

test: tools
	cargo fmt --check
	cargo clippy --all-targets --features components -- -D warnings
	cargo test --features components

fix: rust
	cargo clippy --fix --allow-dirty --allow-staged --all-targets --features components
	cargo fmt

# What a cluster reaches beside what the machine allows; about two minutes after the build.
bench: rust
	cargo build --release
	cargo run --release --example limits

# What faults cost, and how long repair takes; about six minutes after the build.
faults: rust
	cargo build --release
	cargo run --release --example faults

# Half an hour of mixed faults under all workloads; SEED=n repeats a run.
MINUTES = 30
soak: tools
	cargo build --release
	./target/release/quorate verify --nodes 5 --minutes $(MINUTES) \
		--nemesis kill,pause,partition,wipe,clock $(if $(SEED),--seed $(SEED))

# Do the tests notice? One fault of logic after the other; about three minutes after the build.
mutants: tools
	cargo test --features components,mutants --no-run
	cargo test --features components,mutants --test mutants

# What Rust needs to check itself; nothing where it is there already. A C compiler, make and perl
# are assumed.
rust:
	@cargo --version >/dev/null || { echo "Rust is needed: see https://rustup.rs" >&2; exit 1; }
	@cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@cargo clippy --version >/dev/null 2>&1 || rustup component add clippy

# Installs what is missing; on Debian, and as root.
tools: rust
	@missing=; for it in $(PROGRAMS); do \
		command -v $${it%%:*} >/dev/null || missing="$$missing $${it##*:}"; done; \
	[ -z "$$missing" ] || { echo "installing$$missing"; apt-get update -q && \
		apt-get install -q -y --no-install-recommends $$missing; } || \
		{ echo "the tests need, from your system's packages:$$missing" >&2; exit 1; }
	@tests/tools.sh
