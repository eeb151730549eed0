# `make` alone prints what there is.

# Static where the C library is glibc, so that what the tests run is what their images hold, built once. A target must be
# named for that: without one the flags would reach build scripts and procedural macros too.
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
ifneq ($(HOST),)
export CARGO_BUILD_TARGET := $(HOST)
endif
ifneq ($(filter %-linux-gnu,$(HOST)),)
export CARGO_TARGET_$(shell echo $(HOST) | tr a-z- A-Z_)_RUSTFLAGS := -C target-feature=+crt-static
endif

BUILD := cargo build --workspace --exclude system-tests --bins
BUILT := target/$(HOST)/debug

.PHONY: help
help:
	@sed -n 's/^\([a-z-]*\):.*## /  \1	/p' Makefile | expand -t 18

# Of one that is there, too: an earlier release wrote it without what this one needs.
.PHONY: .env
.env:
	@scripts/env-file

.PHONY: run
run: .env ## build and start every service on this machine (needs Rust and cc)
	$(BUILD)
	$(BUILT)/signalpost up

.PHONY: up
up: .env ## start every service in a container, release builds (needs Docker)
	scripts/build-image
	scripts/up

.PHONY: down
down: export STRIPE_WEBHOOK_SECRET = not needed to stop
down: export SIGNALPOST_INTERNAL_KEY = not needed to stop
down: ## stop the containers; their data stays in volumes
	scripts/compose down --remove-orphans

.PHONY: logs
logs: export STRIPE_WEBHOOK_SECRET = not needed to read
logs: export SIGNALPOST_INTERNAL_KEY = not needed to read
logs: ## follow the containers' logs
	scripts/compose logs --follow --tail=100

.PHONY: test
test: ## unit, conformance and stack tests
	$(BUILD)
	cargo test --workspace --lib --bins --tests --no-fail-fast

.PHONY: test-compose
test-compose: ## the same scenarios against containers of their own (needs Docker and Rust)
	scripts/with-stack cargo test --workspace --test compose

.PHONY: simulate
simulate: ## delivery's decisions under faults, over SEEDS=… seeds (SEED=… repeats one)
	cargo test --package system-tests --test simulation -- --nocapture

.PHONY: demo-failures
demo-failures: ## what happens to deliveries when an endpoint or a process fails
	$(BUILD)
	BUILT=$(BUILT) scripts/demo-failures

.PHONY: check
check: ## format, lints, docs, and dependencies where cargo-deny is installed
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --test compose -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; \
	else echo "cargo-deny is not installed: dependencies were not checked"; fi

.PHONY: fix
fix: ## format, and let clippy mend what it can
	cargo fmt --all
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

.PHONY: bench
bench: ## measure on this machine; prints a table of ratios
	$(BUILD) --release
	cargo bench --workspace --bench hub --bench delivery

.PHONY: scale-demo
scale-demo: ## 1, 2, 3 replicas under load, one killed (needs Docker and Rust)
	cargo build --workspace --bins
	scripts/with-stack $(BUILT)/scale_demo
