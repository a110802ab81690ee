# The two commands of the README, and what stands behind them.
SHELL := /bin/bash
export PATH := /usr/lib/ccache:$(HOME)/.cargo/bin:$(PATH)
# Outside the checkout, so that a fresh clone does not compile RocksDB again.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/pegasus/target
BIN := $(CARGO_TARGET_DIR)/release
PURE := -p pegasus-replication -p pegasus-meta -p sim
DEMO_DIR ?= $(HOME)/.local/share/pegasus-demo

.PHONY: demo test setup build sim soak help

help:
	@echo 'make demo   build, start a local cluster (1 meta, 3 replica nodes), load it, measure it, leave it running'
	@echo 'make test   build and run all tests'
	@echo 'make sim    1,000 fresh simulator seeds'
	@echo 'make soak   the long checks: power cuts, mixed load (about 40 minutes)'

setup:
	@.ci/setup

build: setup
	@echo '== building (the first time about 20 minutes on two cores, nearly all of it RocksDB)'
	cargo build --release --workspace --bins

demo: build
	@BIN='$(BIN)' DIR='$(DEMO_DIR)' .ci/demo

test: setup
	@echo '== tests of the pure packages, with debug assertions'
	cargo test --profile checked $(PURE)
	@echo '== tests of everything else, against the release binaries'
	cargo build --release --workspace --bins
	cargo test --release --workspace --exclude pegasus-replication --exclude pegasus-meta --exclude sim

sim: setup
	cargo run --profile checked -p sim -- run --seeds 1..1000 --seconds 60 --jobs $$(nproc)

soak: build
	cargo test --release -p e2e -- --ignored --nocapture --test-threads 1
