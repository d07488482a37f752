# Everything a developer or CI runs. `make help` lists the targets.

CARGO ?= cargo
DENY := $(CARGO) deny --config deploy/deny.toml --locked

.DEFAULT_GOAL := help
.PHONY: help demo run test check fmt clippy audit lint doc release test-lavalink cargo clean

# Runs $(3) where there is the tool $(1), had by $(2). Without it that is skipped, but CI must have it.
with = @if command -v $(1) >/dev/null; then $(3); else echo "skipped: $@ needs $(1) ($(2))"; test -z "$$CI"; fi

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

demo: cargo ## build and run with pretend Lavalinks and bots, to look around
	$(CARGO) run --release --locked -- --demo

run: cargo ## build and run with the settings of ./lavaproxy.env or ./.env
	$(CARGO) run --release --locked

test: cargo ## every test there is; the bot libraries are installed into target/ on the way
	$(CARGO) test --locked

check: fmt clippy audit lint test doc ## what CI runs: fmt, clippy, audit, lint, test, doc

fmt: cargo
	$(CARGO) fmt --check

clippy: cargo
	$(CARGO) clippy --locked --all-targets -- -D warnings

doc: cargo
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items

audit: cargo ## licences, duplicates, sources and advisories of the dependencies, by cargo-deny
	$(call with,cargo-deny,cargo install cargo-deny --locked,$(DENY) check licenses bans sources)
	$(call with,cargo-deny,cargo install cargo-deny --locked,if $(DENY) fetch db 2>/dev/null; \
		then $(DENY) check --disable-fetch advisories; \
		else echo "skipped: advisories as their database is out of reach"; fi)

lint: ## the workflows, by actionlint
	$(call with,actionlint,https://github.com/rhysd/actionlint,actionlint)

release: cargo ## static binaries for x86_64, aarch64 and ARMv6 with their sums, in target/dist/; or TARGETS=...
	@deploy/release.sh $(TARGETS)

test-lavalink: cargo ## the bot libraries against real Lavalinks: LAVALINK_V3_JAR=... LAVALINK_V4_JAR=...
	@test -n "$(LAVALINK_V3_JAR)$(LAVALINK_V4_JAR)" \
		|| { echo "name the jars: make test-lavalink LAVALINK_V3_JAR=path/to/v3.jar LAVALINK_V4_JAR=path/to/v4.jar"; exit 1; }
	@command -v java >/dev/null || { echo "the jars need Java 17: apt-get install openjdk-17-jre-headless"; exit 1; }
	LAVALINK_V3_JAR="$(LAVALINK_V3_JAR)" LAVALINK_V4_JAR="$(LAVALINK_V4_JAR)" $(CARGO) test --locked --test libraries

cargo:
	@command -v $(CARGO) >/dev/null || { echo "lavaproxy needs Rust 1.85 or newer: install it with rustup (https://rustup.rs)"; exit 1; }

clean: ## remove everything that was built or installed
	rm -rf target
