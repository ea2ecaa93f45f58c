# The project's commands. `make test` changes nothing in the project; `make fix` does.

.PHONY: test fix bench faults soak mutants image pictures tools packages rust

# What the tests drive beside Quorate itself: the program, and the Debian package it comes in.
PROGRAMS = ip:iproute2 nft:nftables faketime:faketime strace:strace curl:curl \
	rsyslogd:rsyslog java:openjdk-17-jre-headless mvn:maven unzip:unzip \
	prometheus:prometheus promtool:prometheus chromium:chromium
# The same for what is no program, by a file of it.
FILES = /usr/lib/$(shell uname -m)-linux-gnu/rsyslog/omelasticsearch.so:rsyslog-elasticsearch

# What no package has. Elasticsearch is the server alone, as Maven has it for tests.
TOOLS = target/tools
ELASTICSEARCH = 8.19.21
ELASTICSEARCH_ZIP = org.elasticsearch.distribution.integ-test-zip:elasticsearch:$(ELASTICSEARCH):zip
PYTHON = logstash-pipeline-parser==0.0.3 PyYAML==6.0.2

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
NEMESIS = kill,pause,partition,wipe,clock,join,leave,replace,forget,kill-during-move,partition-during-move
soak: tools
	cargo test --features components,extra --test model forgets
	cargo build --release
	./target/release/quorate verify --nodes 5 --minutes $(MINUTES) \
		--nemesis $(NEMESIS) $(if $(SEED),--seed $(SEED))

# Do the tests notice? One fault of logic after the other; about three minutes after the build.
mutants: tools
	cargo test --features components,mutants --no-run
	cargo test --features components,mutants --test mutants

# Whether docker/Dockerfile compiles Quorate, without network; some ten minutes.
image: tools
	command -v debootstrap >/dev/null || tests/packages.sh debootstrap
	cargo test --features components,extra --test docker compiling

# The pictures of docs/console.md; look at them before they are committed.
pictures: tools
	cargo test --release --features components,extra --test console pictures

# What Rust needs to check itself; nothing where it is there already. A C compiler, make and perl
# are assumed.
rust:
	@cargo --version >/dev/null || { echo "Rust is needed: see https://rustup.rs" >&2; exit 1; }
	@cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@cargo clippy --version >/dev/null 2>&1 || rustup component add clippy

# Installs what is missing; on Debian, and as root.
tools: packages $(TOOLS)/elasticsearch-$(ELASTICSEARCH) $(TOOLS)/elk-python

$(TOOLS)/elasticsearch-$(ELASTICSEARCH): | packages
	mvn -q org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
		-Dartifact=$(ELASTICSEARCH_ZIP) -DoutputDirectory=$(TOOLS)
	unzip -q -o $(TOOLS)/elasticsearch-$(ELASTICSEARCH).zip -d $(TOOLS)/new
	rm $(TOOLS)/elasticsearch-$(ELASTICSEARCH).zip
	mv $(TOOLS)/new/elasticsearch-$(ELASTICSEARCH) $@

$(TOOLS)/elk-python: Makefile | packages
	rm -rf $@
	python3 -m venv $@ && $@/bin/pip install -q $(PYTHON) || { rm -rf $@; exit 1; }

packages: rust
	@missing=; for it in $(PROGRAMS); do \
		command -v $${it%%:*} >/dev/null || missing="$$missing $${it##*:}"; done; \
	for it in $(FILES); do \
		[ -e $${it%%:*} ] || missing="$$missing $${it##*:}"; done; \
	python3 -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	[ -z "$$missing" ] || { echo "installing$$missing"; tests/packages.sh $$missing; } || \
		{ echo "the tests need, from your system's packages:$$missing" >&2; exit 1; }
	@tests/tools.sh
