# Everything a developer or CI runs. `make help` lists the targets.

CARGO ?= cargo
MUSL := $(shell uname -m)-unknown-linux-musl

.DEFAULT_GOAL := help
.PHONY: help demo run test check fmt clippy doc release bench test-lavalink cargo clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

demo: cargo ## build and run with pretend Lavalinks and bots, to look around
	$(CARGO) run --release --locked -- --demo

run: cargo ## build and run with the settings of ./lavaproxy.env or ./.env
	$(CARGO) run --release --locked

test: cargo ## every test there is; the bot libraries are installed into target/ on the way
	$(CARGO) test --locked

check: fmt clippy test doc ## what CI runs: fmt, clippy, test, doc

fmt: cargo
	$(CARGO) fmt --check

clippy: cargo
	$(CARGO) clippy --locked --all-targets -- -D warnings

doc: cargo
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items

release: cargo ## the static binary of this machine, under target/
	@rustup target list --installed 2>/dev/null | grep -qx $(MUSL) || rustup target add $(MUSL) \
		|| { echo "make release needs the Rust target $(MUSL): install rustup (https://rustup.rs), or your distribution's package of it"; exit 1; }
	RUSTFLAGS='-C linker=rust-lld -C link-self-contained=yes' $(CARGO) build --release --locked --target $(MUSL)
	@ls -l target/$(MUSL)/release/lavaproxy

bench: release ## beside HAProxy and nginx, 25 minutes on a quiet machine; less with LOADS=echo,rest ROUNDS=3 SECONDS=1
	LAVAPROXY=target/$(MUSL)/release/lavaproxy $(CARGO) bench --locked --bench peers -- \
		$(if $(LOADS),--loads '$(LOADS)') $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS))

test-lavalink: cargo ## the bot libraries against real Lavalinks: LAVALINK_V3_JAR=... LAVALINK_V4_JAR=...
	@test -n "$(LAVALINK_V3_JAR)$(LAVALINK_V4_JAR)" \
		|| { echo "name the jars: make test-lavalink LAVALINK_V3_JAR=path/to/v3.jar LAVALINK_V4_JAR=path/to/v4.jar"; exit 1; }
	@command -v java >/dev/null || { echo "the jars need Java 17: apt-get install openjdk-17-jre-headless"; exit 1; }
	LAVALINK_V3_JAR="$(LAVALINK_V3_JAR)" LAVALINK_V4_JAR="$(LAVALINK_V4_JAR)" $(CARGO) test --locked --test libraries

cargo:
	@command -v $(CARGO) >/dev/null || { echo "lavaproxy needs Rust 1.85 or newer: install it with rustup (https://rustup.rs)"; exit 1; }

clean: ## remove everything that was built or installed
	rm -rf target
