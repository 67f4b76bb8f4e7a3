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

# What tests alone are built with: the steps at which they make the service fail.
FAILPOINTS := --features task-logger/failpoints

# Seconds that a recipe took, printed as its last line.
started = begin=$$(date +%s)
finished = echo "$@: $$(( $$(date +%s) - begin )) s"

# The guests of tests/conformance, one for each language.
CONFORMANCE := rust python js c
# What a plugin in C is built with: clang and wasi-libc; rustup's toolchain has the linker that makes components.
C_TEMPLATE := plugins/templates/c
COMPONENT_LD = $(shell rustc --print sysroot)/lib/rustlib/$(shell rustc -vV | sed -n 's/^host: //p')/bin/wasm-component-ld
C_FLAGS := --target=wasm32-wasi -mexec-model=reactor -std=c11 -O2 -Wall -Wextra -Werror
# What plugins in Python and JavaScript are built with: the templates' own set-up, in a folder of ours.
PYTHON_TOOLS := target/tools/python
JS_TOOLS := target/tools/js

.PHONY: build setup setup-redis setup-c setup-python setup-js setup-minisign setup-promtool setup-kubernetes setup-strace setup-page setup-api plugins guests conformance $(CONFORMANCE:%=conformance-%) demo serve test page-test api-test torture fuzz load soak test-task-logger bench bench-reading bench-crossing lint clean help

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

setup-strace: ## Install strace, for the tests of power loss
	@command -v strace >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends strace; \
	} || { echo 'strace is missing: install it (Debian, Ubuntu: `sudo apt-get install strace`)'; exit 1; }

setup-c: setup ## Install clang for WebAssembly, for the conformance guest in C
	@works() { echo 'int main(void) { return 0; }' | clang --target=wasm32-wasi -x c - -o /dev/null 2>/dev/null; }; \
	works || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
			clang lld wasi-libc libclang-rt-dev-wasm32 && works; \
	} || { echo 'clang cannot build for wasm32-wasi: install it (Debian, Ubuntu: `sudo apt-get install clang lld wasi-libc libclang-rt-dev-wasm32`)'; exit 1; }

setup-python: ## Install Python, for the conformance guest in Python
	@works() { python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }; \
	works || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends python3 python3-venv \
		&& works; \
	} || { echo 'Python from 3.11 on with venv is missing: install it (Debian, Ubuntu: `sudo apt-get install python3-venv`)'; exit 1; }

setup-js: ## Install Node.js, for the conformance guest in JavaScript
	@works() { command -v npm >/dev/null && node -e 'process.exit(Number(parseInt(process.versions.node) < 18))' 2>/dev/null; }; \
	works || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends nodejs npm \
		&& works; \
	} || { echo 'Node.js from 18 on with npm is missing: install it (Debian, Ubuntu: `sudo apt-get install nodejs npm`)'; exit 1; }

setup-minisign: ## Install minisign, to cross-check signatures in tests
	@command -v minisign >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends minisign; \
	} || { echo 'minisign is missing: install it (Debian, Ubuntu: `sudo apt-get install minisign`)'; exit 1; }

# Its package would start a server; only this program is taken out of it.
setup-promtool: ## Fetch promtool, to test the alerts
	@command -v promtool >/dev/null || test -x target/tools/promtool || { \
		mkdir -p target/tools/prometheus && cd target/tools/prometheus \
		&& { [ "$$(id -u)" != 0 ] || apt-get update -q; } && apt-get download -q prometheus \
		&& dpkg --fsys-tarfile prometheus_*.deb | tar -x --strip-components=3 ./usr/bin/promtool \
		&& mv promtool .. && cd .. && rm -r prometheus; \
	} || { echo 'promtool is missing: install it (Debian, Ubuntu: `sudo apt-get install --no-install-recommends prometheus`)'; exit 1; }

# A validator with the schemas of Kubernetes in it: nothing is fetched when it runs.
setup-kubernetes: setup-python ## Fetch the schemas of Kubernetes, to validate the manifests
	@test -x target/tools/kubernetes/bin/kubernetes-validate || { \
		python3 -m venv target/tools/kubernetes \
		&& target/tools/kubernetes/bin/pip install --quiet --disable-pip-version-check --requirement tests/it/deploy/kubernetes-validate.txt; \
	} || { echo 'kubernetes-validate cannot be installed from PyPI'; exit 1; }

# Only for the tests of the page. The browser is the system's, the accessibility rules are those of axe-core; the modules' own
# tests run from a copy that tells Node.js what they are.
PAGE_TOOLS := target/page
AXE_VERSION := 4.14.1

setup-page: setup-python setup-js ## Install Chromium and what drives it, for the tests of the page
	@command -v chromium >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends chromium fonts-dejavu-core; \
	} || { echo 'chromium is missing: install it (Debian, Ubuntu: `sudo apt-get install chromium`)'; exit 1; }
	@mkdir -p $(PAGE_TOOLS)
	@cmp -s tests/page/requirements.txt $(PAGE_TOOLS)/venv/requirements.txt || { \
		python3 -m venv $(PAGE_TOOLS)/venv \
		&& $(PAGE_TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check --requirement tests/page/requirements.txt \
		&& cp tests/page/requirements.txt $(PAGE_TOOLS)/venv; \
	} || { echo 'the packages of tests/page/requirements.txt cannot be installed from PyPI'; exit 1; }
	@test -f $(PAGE_TOOLS)/axe/node_modules/axe-core/axe.min.js || \
		npm install --silent --no-save --no-audit --no-fund --ignore-scripts --prefix $(PAGE_TOOLS)/axe axe-core@$(AXE_VERSION) \
		|| { echo 'axe-core cannot be installed from npm'; exit 1; }

setup-api: setup-python ## Install schemathesis, to ask the service what its OpenAPI document says
	@cmp -s tests/api/requirements.txt target/tools/api/requirements.txt || { \
		python3 -m venv target/tools/api \
		&& target/tools/api/bin/pip install --quiet --disable-pip-version-check --requirement tests/api/requirements.txt \
		&& cp tests/api/requirements.txt target/tools/api; \
	} || { echo 'schemathesis cannot be installed from PyPI'; exit 1; }

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

conformance: $(CONFORMANCE:%=conformance-%) ## Build the guests of the conformance suite, one for each language

conformance-rust: setup
	cargo build $(CARGO_FLAGS) --release --target $(PLUGIN_TARGET) -p conformance-rust
	@mkdir -p target/conformance
	@install -m 0644 $(GUEST_DIR)/conformance_rust.wasm target/conformance/.rust.wasm.new
	@mv target/conformance/.rust.wasm.new target/conformance/rust.wasm

conformance-c: setup-c
	@mkdir -p target/conformance
	clang $(C_FLAGS) -I$(C_TEMPLATE) -fuse-ld=$(COMPONENT_LD) -Wl,--component-type,wit/plugin.wit -Wl,--strip-debug \
		tests/conformance/c/conformance.c $(C_TEMPLATE)/json.c $(C_TEMPLATE)/bindings/*.c -o target/conformance/.c.wasm.new
	@mv target/conformance/.c.wasm.new target/conformance/c.wasm

conformance-python: setup-python target/conformance/python.wasm

# From a copy: Python compiles its modules beside them.
target/conformance/python.wasm: tests/conformance/python/guest.py wit/plugin.wit $(PYTHON_TOOLS)/.venv/done
	@mkdir -p $(@D) $(PYTHON_TOOLS)/guest
	install -m 0644 $< $(PYTHON_TOOLS)/guest
	$(PYTHON_TOOLS)/.venv/bin/componentize-py --quiet --wit-path wit --world plugin \
		componentize --python-path $(PYTHON_TOOLS)/guest guest -o $(@D)/.$(@F).new
	@mv $(@D)/.$(@F).new $@

$(PYTHON_TOOLS)/.venv/done: $(addprefix plugins/templates/python/,Makefile requirements.txt)
	@mkdir -p $(PYTHON_TOOLS)
	install -m 0644 $^ $(PYTHON_TOOLS)
	$(MAKE) --no-print-directory -C $(PYTHON_TOOLS) setup

conformance-js: setup-js target/conformance/js.wasm

target/conformance/js.wasm: tests/conformance/js/guest.js wit/plugin.wit $(JS_TOOLS)/node_modules/.done
	@mkdir -p $(@D)
	node $(JS_TOOLS)/build.mjs $< $@ wit

$(JS_TOOLS)/node_modules/.done: $(addprefix plugins/templates/js/,Makefile package.json package-lock.json .npmrc build.mjs)
	@mkdir -p $(JS_TOOLS)
	install -m 0644 $^ $(JS_TOOLS)
	$(MAKE) --no-print-directory -C $(JS_TOOLS) setup

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
	@$(started); $(MAKE) --no-print-directory setup-redis setup-minisign setup-strace setup-promtool setup-kubernetes plugins guests conformance; \
	REQUIRE_REDIS=1 REQUIRE_MINISIGN=1 REQUIRE_STRACE=1 REQUIRE_PROMTOOL=1 REQUIRE_KUBERNETES=1 REQUIRE_GUESTS=1 REQUIRE_PYTHON=1 cargo test $(CARGO_FLAGS) --release --workspace $(FAILPOINTS) -- $(ARGS); \
	$(finished)

page-test: setup-page build ## Test the page in a browser; pictures of it go to target/page (ARGS='-k looks')
	@rm -rf $(PAGE_TOOLS)/logic && mkdir -p $(PAGE_TOOLS)/logic/src $(PAGE_TOOLS)/logic/tests/page
	@cp -r src/page $(PAGE_TOOLS)/logic/src && cp tests/page/*.mjs $(PAGE_TOOLS)/logic/tests/page
	@echo '{"type": "module"}' > $(PAGE_TOOLS)/logic/package.json
	node --test $(PAGE_TOOLS)/logic/tests/page/logic.test.mjs
	CHROMIUM=$$(command -v chromium) PYTHONDONTWRITEBYTECODE=1 $(PAGE_TOOLS)/venv/bin/python -m pytest -q -p no:cacheprovider -rP tests/page $(ARGS)

# How long, and how many tests side by side: they wait more than they work.
MINUTES ?= 5
LANES ?= 4

torture: setup-redis setup-strace plugins guests ## Run every fault again and again for MINUTES
	REQUIRE_REDIS=1 REQUIRE_STRACE=1 REQUIRE_GUESTS=1 MINUTES=$(MINUTES) LANES=$(LANES) \
		cargo test $(CARGO_FLAGS) --release $(FAILPOINTS) --test it -- --exact torture::torture --ignored --nocapture

SECONDS ?= 60

fuzz: ## Run every reader of bytes from outside over mutated input for SECONDS each
	SECONDS=$(SECONDS) cargo test $(CARGO_FLAGS) --release --lib -- fuzzing:: --nocapture

# How long it asks.
API_SECONDS ?= 100

api-test: setup-api ## Hold the running service against its OpenAPI document (API_SECONDS)
	cargo build $(CARGO_FLAGS) --release
	tests/api/run $(abspath $(BIN)) $(abspath target/tools/api/bin/schemathesis) $(API_SECONDS)

test-task-logger: test ## The same, under the name of the spec

# Some minutes, some gigabytes below TMPDIR.
load: setup-redis guests ## Run the load faults at their full size
	REQUIRE_REDIS=1 TASK_LOGGER_LOAD=full cargo test $(CARGO_FLAGS) --release $(FAILPOINTS) --test it -- overload:: --nocapture --test-threads 1

soak: setup-redis ## Millions of entries over very many tasks, with restarts (ENTRIES, TASKS)
	REQUIRE_REDIS=1 ENTRIES=$(or $(ENTRIES),5000000) TASKS=$(or $(TASKS),100000) \
		cargo test $(CARGO_FLAGS) --release $(FAILPOINTS) --test it -- --ignored --exact soak::soak --nocapture

bench: setup-redis plugins ## Measure events per second
	cargo bench $(CARGO_FLAGS) --profile release --bench drain -- $(ARGS)

bench-reading: setup-redis plugins ## Measure what readers and followers get, and what they cost
	cargo bench $(CARGO_FLAGS) --profile release --bench reading -- $(ARGS)

bench-crossing: plugins ## Measure what a plugin call costs, and `redact` against the same code called natively
	cargo build $(CARGO_FLAGS) --profile plugin --target $(PLUGIN_TARGET) -p conformance-rust --example pass
	cargo bench $(CARGO_FLAGS) --profile release --bench crossing -- $(ARGS)

# Documentation is made for those who work on the code: with private items, so that links to them lead somewhere.
lint: setup ## Check format, lints and documentation
	cargo fmt --all -- --check
	cargo clippy $(CARGO_FLAGS) --release --workspace --all-targets -- -D warnings
	cargo clippy $(CARGO_FLAGS) --release --workspace --all-targets $(FAILPOINTS) -- -D warnings
	cargo clippy $(CARGO_FLAGS) --release --target $(PLUGIN_TARGET) $(PLUGINS:%=-p %) -p guests -p conformance-rust -p task-logger-plugin -- -D warnings
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc $(CARGO_FLAGS) --release --workspace --no-deps --document-private-items

clean: ## Remove what was built, and the folders of demos
	rm -rf target data/demo-*
