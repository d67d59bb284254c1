# Two commands do everything on a fresh Debian or Ubuntu machine: `make run` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CARGO_FLAGS := --workspace --locked
export CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TERM_COLOR ?= auto
export PATH := $(HOME)/.cargo/bin:$(PATH)
BIN := $(CARGO_TARGET_DIR)/debug/signalbox
PART := tests/setup/part.sh
# Always the whole workspace, so that one set of features is built once; what is run is chosen by the target's name.
WORLD := cargo test $(CARGO_FLAGS) --lib --bins --test it
E2E := cargo test $(CARGO_FLAGS) --test e2e

.PHONY: help run test build clippy fmt world e2e brokers chaos fuzz bench setup-build setup-peers release clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: setup-build ## install what is missing, build, and start the demo
	cargo build $(CARGO_FLAGS) --bins
	$(BIN) demo

build: setup-build ## build everything, tests included
	cargo build $(CARGO_FLAGS) --all-targets

test: ## everything: style, lints, units, the simulated world, real peers; says minutes per part
	@$(PART) start
	@$(PART) install  bash -c 'tests/setup/install.sh build && tests/setup/install.sh peers'
	@$(PART) format   cargo fmt --all --check
	@$(PART) build    cargo build $(CARGO_FLAGS) --all-targets
	@$(PART) clippy   cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
	@$(PART) lean     cargo clippy --locked -p signalbox --no-default-features -- -D warnings
	@$(PART) world    $(WORLD)
	@$(PART) e2e      $(E2E)
	@$(PART) docs     cargo test $(CARGO_FLAGS) --doc
	@$(PART) finish

clippy: setup-build ## lints, warnings denied
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings

fmt: setup-build ## format the code
	cargo fmt --all

world: setup-build ## only what needs no other server but PostgreSQL
	$(WORLD)

e2e: setup-build setup-peers ## only what runs against real servers
	cargo build $(CARGO_FLAGS) --bins
	$(E2E)

brokers: setup-build setup-peers ## only the suite that each bus passes, against real NATS and Kafka
	cargo test --locked -p signalbox-brokers --test e2e

chaos: setup-build setup-peers ## the long forms: 200 kills, ten times the random cases, brokers away for three minutes
	cargo build $(CARGO_FLAGS) --bins
	SIGNALBOX_EFFORT=10 cargo test $(CARGO_FLAGS) --lib --bins --test it --test e2e

fuzz: setup-build ## fuzz targets under libFuzzer, MINUTES of each (default 1), crashes are shown
	tests/torture/fuzz/run.sh $(or $(MINUTES),1)

bench: setup-build setup-peers ## measure side by side with Kamailio, journal, parser; target/bench/report.json
	cargo build --release --locked -p signalbox -p signalbox-bench
	$(CARGO_TARGET_DIR)/release/signalbox-bench

release: setup-build ## an optimised binary in target/release
	cargo build --release --locked -p signalbox

setup-build:
	@tests/setup/install.sh build

setup-peers:
	@tests/setup/install.sh peers

clean: ## remove what was built
	cargo clean
