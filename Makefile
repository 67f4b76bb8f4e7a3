# Everything that a person or a CI run starts. Needs rustup's stable toolchain; the rest is set up by `make setup`.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

# rustup puts cargo here, and not every shell knows it.
export PATH := $(PATH):$(HOME)/.cargo/bin

PLUGINS := redact usage transcript
PLUGIN_TARGET := wasm32-wasip2
GUEST_DIR := target/$(PLUGIN_TARGET)/release
PLUGIN_DIR := target/$(PLUGIN_TARGET)/plugin
BIN := target/release/task-logger
# One folder, whatever the environment says: the plugins are found below it.
export CARGO_TARGET_DIR := $(CURDIR)/target
CARGO_FLAGS ?= --locked
# Further arguments of the tests, e.g. ARGS='source:: --nocapture'.
ARGS ?=

# Seconds that a recipe took, printed as its last line.
started = begin=$$(date +%s)
finished = echo "$@: $$(( $$(date +%s) - begin )) s"

.PHONY: build setup setup-redis plugins guests conformance-rust demo serve test test-task-logger bench bench-crossing lint clean help

help: ## Show this
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

setup: ## Add the WebAssembly target
	@command -v cargo >/dev/null || { echo 'cargo is missing: install the stable toolchain with rustup (https://rustup.rs)'; exit 1; }
	@rustc --print target-libdir --target $(PLUGIN_TARGET) 2>/dev/null | xargs -r test -d \
		|| { command -v rustup >/dev/null && rustup target add $(PLUGIN_TARGET); } \
		|| { echo 'the target $(PLUGIN_TARGET) is missing: run `rustup target add $(PLUGIN_TARGET)`'; exit 1; }

setup-redis: ## Install redis-server, for tests and benchmark
	@command -v redis-server >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends redis-server; \
	} || { echo 'redis-server is missing: install it (Debian, Ubuntu: `sudo apt-get install redis-server`)'; exit 1; }

plugins: setup ## Build the bundled plugins into target/plugins
	cargo build $(CARGO_FLAGS) --profile plugin --target $(PLUGIN_TARGET) $(PLUGINS:%=-p %)
	@mkdir -p target/plugins
	@for name in $(PLUGINS); do \
		install -m 0644 "plugins/$$name/$$name.toml" "target/plugins/.$$name.toml.new"; \
		mv "target/plugins/.$$name.toml.new" "target/plugins/$$name.toml"; \
		install -m 0644 "$(PLUGIN_DIR)/$$name.wasm" "target/plugins/.$$name.wasm.new"; \
		mv "target/plugins/.$$name.wasm.new" "target/plugins/$$name.wasm"; \
	done

guests: setup ## Build the misbehaving plugins of the tests
	cargo build $(CARGO_FLAGS) --release --target $(PLUGIN_TARGET) -p guests

conformance-rust: setup ## Build the conformance guest in Rust
	cargo build $(CARGO_FLAGS) --release --target $(PLUGIN_TARGET) -p conformance-rust
	@mkdir -p target/conformance
	@install -m 0644 $(GUEST_DIR)/conformance_rust.wasm target/conformance/.rust.wasm.new
	@mv target/conformance/.rust.wasm.new target/conformance/rust.wasm

build: plugins ## Build the plugins and the service
	cargo build $(CARGO_FLAGS) --release

demo: ## Run the bundled session through the service (EXIT=1: end after it)
	@$(started); $(MAKE) --no-print-directory build; \
	built=$$(( $$(date +%s) - begin )); echo "built in $$built s"; \
	PLUGINS_DIR="$${PLUGINS_DIR:-target/plugins}" $(BIN) demo $(if $(filter-out 0,$(EXIT)),--exit); \
	$(finished)

serve: build ## Run the service with the bundled plugins and your own in data/plugins
	PLUGINS_DIR="$${PLUGINS_DIR:-target/plugins:data/plugins}" $(BIN) serve

test: ## Run all tests
	@$(started); $(MAKE) --no-print-directory setup-redis plugins guests; \
	REQUIRE_REDIS=1 cargo test $(CARGO_FLAGS) --release --workspace -- $(ARGS); \
	$(finished)

test-task-logger: test ## The same, under the name of the spec

bench: setup-redis plugins ## Measure events per second
	cargo bench $(CARGO_FLAGS) --profile release --bench drain -- $(ARGS)

bench-crossing: plugins ## Measure what a plugin call costs, and `redact` against the same code called natively
	cargo build $(CARGO_FLAGS) --profile plugin --target $(PLUGIN_TARGET) -p conformance-rust --example pass
	cargo bench $(CARGO_FLAGS) --profile release --bench crossing -- $(ARGS)

# Documentation is made for those who work on the code: with private items, so that links to them lead somewhere.
lint: setup ## Check format, lints and documentation
	cargo fmt --all -- --check
	cargo clippy $(CARGO_FLAGS) --release --workspace --all-targets -- -D warnings
	cargo clippy $(CARGO_FLAGS) --release --target $(PLUGIN_TARGET) $(PLUGINS:%=-p %) -p guests -p conformance-rust -p task-logger-plugin -- -D warnings
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc $(CARGO_FLAGS) --release --workspace --no-deps --document-private-items

clean: ## Remove what was built, and the folders of demos
	rm -rf target data/demo-*
