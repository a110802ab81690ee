# The two commands of the README, and what stands behind them.
SHELL := /bin/bash
export PATH := /usr/lib/ccache:$(HOME)/.cargo/bin:$(HOME)/.local/bin:$(PATH)
# Outside the checkout, so that a fresh clone does not compile RocksDB again.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/pegasus/target
BIN := $(CARGO_TARGET_DIR)/release
PURE := -p pegasus-replication -p pegasus-meta -p sim
DEMO_DIR ?= $(HOME)/.local/share/pegasus-demo

.PHONY: demo test setup build deb sim soak failover meta-failover fuzz bench-quick help

help:
	@echo 'make demo   build, start a local cluster (1 meta, 3 replica nodes), load it, measure it, leave it running'
	@echo 'make test   build and run all tests'
	@echo 'make deb    a Debian package of the release binaries, with units for systemd, in target/'
	@echo 'make sim    1,000 fresh simulator seeds'
	@echo 'make fuzz   every decoder against random bytes, FUZZ_SECONDS (60) each; needs a nightly compiler and cargo-fuzz'
	@echo 'make bench-quick   instructions of the hot paths against those recorded in bench/quick/counts.toml; UPDATE=1 records anew'
	@echo 'make soak   the long checks: twenty power cuts, every fault scenario (some minutes)'
	@echo 'make meta-failover   measure: the leader of three metas killed twenty times'
	@echo 'make failover   measure: KILLS (20) kills of a node with primaries, SECONDS_OF_LOAD (600) of load without a false failover'

setup:
	@.ci/setup

build: setup
	@echo '== building (the first time RocksDB alone takes about 12 minutes on two cores)'
	cargo build --release --workspace --bins

demo: build
	@BIN='$(BIN)' DIR='$(DEMO_DIR)' .ci/demo

test: setup
	@echo '== tests of the pure packages, with debug assertions'
	cargo test --profile checked $(PURE)
	@echo '== tests of everything else, against the release binaries'
	cargo build --release --workspace --bins
	cargo test --release --workspace --exclude pegasus-replication --exclude pegasus-meta --exclude sim

# A Debian package of what is built, in target/.
deb: build
	@tools/packaging/deb '$(BIN)' target

sim: setup
	cargo run --profile checked -p sim -- run --seeds 1..1000 --seconds 60 --jobs $$(nproc)

FUZZ_SECONDS ?= 60
# Outside the other target directories: instrumented, by another compiler.
FUZZ_TARGET_DIR ?= $(HOME)/.cache/pegasus/target-fuzz
FUZZ_CORPUS ?= $(HOME)/.cache/pegasus/fuzz-corpus

fuzz:
	@cargo +nightly fuzz --version >/dev/null 2>&1 || { echo 'fuzzing needs: rustup toolchain install nightly; cargo install --locked cargo-fuzz'; exit 1; }
	@set -e; export CARGO_TARGET_DIR='$(FUZZ_TARGET_DIR)'; for target in $$(cargo +nightly fuzz list --fuzz-dir tests/fuzz); do \
	  echo "== $$target, $(FUZZ_SECONDS) s"; mkdir -p "$(FUZZ_CORPUS)/$$target"; \
	  cargo +nightly fuzz run --fuzz-dir tests/fuzz $$target "$(FUZZ_CORPUS)/$$target" tests/fuzz/corpus/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -verbosity=0; \
	done

# Instructions, not time: whatever else the machine does, the counts are the same.
bench-quick: setup
	cargo build --release -p pegasus-quick
	$(BIN)/pegasus-quick $(if $(UPDATE),update --commit "$$(git rev-parse --short HEAD)",check) --counts bench/quick/counts.toml

soak: build
	cargo test --release -p e2e -- --ignored --nocapture --test-threads 1 --skip how_long_ --skip a_saturating_load

failover: build
	cargo test --release -p e2e --test failover_time -- --ignored --nocapture --test-threads 1

meta-failover: build
	cargo test --release -p e2e --test meta_group -- --ignored --nocapture --test-threads 1
