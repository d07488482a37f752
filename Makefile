# Everything a developer or CI runs. `make help` lists the targets.

CARGO ?= cargo
MINUTES ?= 30
DENY := $(CARGO) deny --config deploy/deny.toml --locked

# Where `make install` takes the binary from and puts things; DESTDIR is a folder to stand for /, as packagers use it.
MACHINE := $(shell uname -m)
BINARY ?= target/dist/lavaproxy-$(if $(filter arm%,$(MACHINE)),arm-unknown-linux-musleabihf,$(MACHINE)-unknown-linux-musl)
PREFIX ?= /usr/local
UNITS ?= $(if $(filter /usr /usr/local,$(PREFIX)),$(PREFIX)/lib,/etc)/systemd/system
SETTINGS := /etc/lavaproxy/lavaproxy.env

# The programs of tests/. TEST_LONG builds releases or takes minutes; TEST_TOOLS needs more than Rust and make, and
# skips with a line what it does not find.
TESTS := $(patsubst tests/%.rs,%,$(wildcard tests/*.rs)) $(patsubst tests/%/main.rs,%,$(wildcard tests/*/main.rs))
TEST_LONG := image release soak takeover_crowd
TEST_TOOLS := alerts browser compose fleet fronts kubernetes libraries prometheus service state_faults
# TEST_CROWDS opens thousands of tunnels or starts hundreds of processes: too much for each save.
TEST_CROWDS := many_tunnels nodes_crowd limits_memory state_killed
# Most of them wait most of the time, so that several run at once; those that take longest start first.
JOBS ?= 8
TEST_SLOW := browser fleet fronts libraries state_killed web_listener_workers stopping web_listener exhaustion command tunnel
SKIPPED := $(or $(CARGO_TARGET_DIR),target)/tmp/skipped

.DEFAULT_GOAL := help
.PHONY: help demo fleet run quick test test-all check soak bench fmt clippy audit lint doc release install uninstall test-lavalink \
	pictures cargo clean

# Builds the unit tests and the test programs $(1), runs them JOBS at a time, each with its output in one piece, and
# repeats at the end what was skipped.
define run_tests
@rm -f $(SKIPPED)
$(CARGO) test --locked --no-run --lib --bins $(addprefix --test ,$(1))
@status=0; \
	$(MAKE) --no-print-directory --keep-going --jobs=$(JOBS) --output-sync=target run/units \
		$(addprefix run/,$(filter $(TEST_SLOW),$(1)) $(filter-out $(TEST_SLOW),$(1))) || status=1; \
	$(list_skipped); exit $$status
endef
list_skipped = if test -s $(SKIPPED); then echo "Skipped, for want of a program or a right:"; sort -u $(SKIPPED); fi

# Runs $(3) where there is the tool $(1), had by $(2). Without it that is skipped, but CI must have it.
with = @if command -v $(1) >/dev/null; then $(3); else echo "skipped: $@ needs $(1) ($(2))"; test -z "$$CI"; fi

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

demo: cargo ## build and run with pretend Lavalinks and bots, to look around
	$(CARGO) run --release --locked -- --demo

fleet: cargo ## build and run three lavaproxies behind HAProxy, to look around
	$(CARGO) build --release --locked
	@deploy/fleet/try.sh

run: cargo ## build and run with the settings of ./lavaproxy.env or ./.env
	$(CARGO) run --release --locked

quick: JOBS := 12
quick: fmt clippy ## at each save: fmt, clippy, the unit tests and the tests that need no other program and no crowd
	$(call run_tests,$(filter-out $(TEST_LONG) $(TEST_TOOLS) $(TEST_CROWDS),$(TESTS)))

test: cargo ## all but the long tests; the bot libraries are installed into target/ if there is Node or Python
	$(call run_tests,$(filter-out $(TEST_LONG),$(TESTS)))

test-all: test ## every test there is: also the release builds, the image, a minute of soak, a glance at the benchmark
	$(CARGO) test --locked $(addprefix --test ,$(filter-out soak,$(TEST_LONG))) --bench peers
	$(CARGO) test --locked --release --test soak
	$(CARGO) test --locked --doc
	@$(list_skipped)

# A test program that hangs is ended, so that what it said is seen.
run/units:
	@echo "unit tests:"; timeout 15m $(CARGO) test --quiet --locked --lib --bins
run/%:
	@echo "tests/$*:"; timeout 15m $(CARGO) test --quiet --locked --test $*

check: fmt clippy audit lint test-all doc ## what CI runs: fmt, clippy, audit, lint, test-all, doc

soak: cargo ## the long run: everything at once for MINUTES=30, every byte checked; ends with a report
	SOAK_MINUTES=$(MINUTES) $(CARGO) test --release --locked --test soak -- --nocapture

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

install: ## the binary, the systemd units and /etc/lavaproxy/lavaproxy.env, as root: PREFIX=/usr/local DESTDIR=
	@test -f '$(BINARY)' \
		|| { echo "there is no $(BINARY): run 'make release' as yourself first, or name the file: make install BINARY=..."; exit 1; }
	install -D -m 0755 '$(BINARY)' '$(DESTDIR)$(PREFIX)/bin/lavaproxy'
	install -d '$(DESTDIR)$(UNITS)'
	sed 's|/usr/local/bin/|$(PREFIX)/bin/|' deploy/lavaproxy.service >'$(DESTDIR)$(UNITS)/lavaproxy.service'
	install -m 0644 deploy/lavaproxy.socket '$(DESTDIR)$(UNITS)/lavaproxy.socket'
	@chmod 0644 '$(DESTDIR)$(UNITS)/lavaproxy.service'
	@if test -e '$(DESTDIR)$(SETTINGS)'; then echo "$(DESTDIR)$(SETTINGS) is kept as it is"; \
		else set -x; install -D -m 0600 lavaproxy.env.example '$(DESTDIR)$(SETTINGS)'; fi
	@if test -z '$(DESTDIR)' && test -d /run/systemd/system; then set -x; systemctl daemon-reload; fi

uninstall: ## what install put there, but the settings; PREFIX and DESTDIR as they were
	@if test -z '$(DESTDIR)' && test -d /run/systemd/system; then \
		set -x; systemctl disable --now lavaproxy.socket lavaproxy.service || true; fi
	rm -f '$(DESTDIR)$(PREFIX)/bin/lavaproxy' \
		'$(DESTDIR)$(UNITS)/lavaproxy.service' '$(DESTDIR)$(UNITS)/lavaproxy.socket'
	@if test -z '$(DESTDIR)' && test -d /run/systemd/system; then set -x; systemctl daemon-reload; fi
	@if test -e '$(DESTDIR)$(SETTINGS)'; then \
		echo "$(DESTDIR)$(SETTINGS) is kept: it is yours, remove it by hand"; fi

bench: cargo ## beside HAProxy and nginx, 30 minutes on a quiet machine; less with LOADS=echo,rest ROUNDS=3 SECONDS=1
	@deploy/release.sh $(MACHINE)-unknown-linux-musl
	LAVAPROXY=target/dist/lavaproxy-$(MACHINE)-unknown-linux-musl $(CARGO) bench --locked --bench peers -- \
		$(if $(LOADS),--loads '$(LOADS)') $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS))

test-lavalink: cargo ## the bot libraries against real Lavalinks: LAVALINK_V3_JAR=... LAVALINK_V4_JAR=...
	@test -n "$(LAVALINK_V3_JAR)$(LAVALINK_V4_JAR)" \
		|| { echo "name the jars: make test-lavalink LAVALINK_V3_JAR=path/to/v3.jar LAVALINK_V4_JAR=path/to/v4.jar"; exit 1; }
	@command -v java >/dev/null || { echo "the jars need Java 17: apt-get install openjdk-17-jre-headless"; exit 1; }
	LAVALINK_V3_JAR="$(LAVALINK_V3_JAR)" LAVALINK_V4_JAR="$(LAVALINK_V4_JAR)" $(CARGO) test --locked --test libraries

pictures: cargo ## the README's pictures of the pages, from a minute of the demo; needs Chromium and Node
	$(CARGO) build --release --locked
	tests/real/pictures.sh target/release/lavaproxy

cargo:
	@command -v $(CARGO) >/dev/null || { echo "lavaproxy needs Rust 1.85 or newer: install it with rustup (https://rustup.rs)"; exit 1; }

clean: ## remove everything that was built or installed
	rm -rf target
