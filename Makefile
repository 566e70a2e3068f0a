# Everything a person does with this repository. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/sh
CARGO ?= cargo
OUT := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The manager of the demo: lab (tests/lab, no Docker needed) or docker (a real dockerd).
MANAGER ?= lab

.PHONY: demo
demo: ## edgeagent joins a manager, a service runs and outlives the agent's death; MANAGER=docker takes a real dockerd
	$(MAKE) --no-print-directory demo-$(MANAGER)

.PHONY: demo-lab demo-docker
demo-lab: lab
	@tests/install-packages busybox
	$(CARGO) build --quiet
	tests/demo.sh $(OUT)/debug/edgeagent $(OUT)/lab/debug/lab
demo-docker: packages
	$(CARGO) build --quiet
	tests/demo-docker.sh $(OUT)/debug/edgeagent

.PHONY: lab
lab: ## build the lab manager, a swarm manager in one process for demos and faults
	$(CARGO) build --quiet --locked --manifest-path tests/lab/Cargo.toml --target-dir $(OUT)/lab

.PHONY: test
test: packages lint ## lint, unit tests, and the live tests against real managers (those need root)
	$(CARGO) test --no-run
	$(CARGO) test --no-fail-fast -- --test-threads=3
	$(CARGO) test --manifest-path tests/lab/Cargo.toml --target-dir $(OUT)/lab
	$(MAKE) --no-print-directory test-vm

# A person's `make vm` boots every kind of device with what is released; this is the part of it that has the time.
.PHONY: test-vm
test-vm: packages # two arm64 devices, flashed from a quick build and booted in qemu
	tests/vm/quick-release $(OUT)/vm/dist
	tests/vm/device arm64 $(OUT)/vm/arm64
	EA_VM=$(abspath $(OUT))/vm EA_DIST=$(abspath $(OUT))/vm/dist \
	    $(CARGO) test --test live -- --ignored --exact vm::an_arm64_device_joins_works_and_survives_a_power_cut \
	    vm::a_small_device_without_a_clock_keeps_its_identity_in_its_tpm

.PHONY: test-long
test-long: packages ## the tests that take minutes: a bad link, silent registries, a small disk, a stack of real software
	$(CARGO) test --test registry -- --test-threads=1 --ignored
	$(CARGO) test --test live -- --test-threads=1 --ignored store:: stack::

.PHONY: live
live: packages ## only the live tests; ONLY=name picks some
	$(CARGO) test --test live -- --test-threads=1 $(ONLY)

.PHONY: test-engines
test-engines: packages ## also against dockerd 26.1 and 28.5 (debootstraps two Debian releases, 1 GB)
	tests/live/engines.sh
	$(CARGO) test --test live -- --test-threads=1 --ignored --nocapture engines::

.PHONY: vm
vm: packages ## flash ARM devices, boot them in qemu, let them join a real manager (builds two releases)
	DIST_SBOM=no targets/build aarch64 armv7 || [ $$? = 3 ] # too large is for make dist to refuse
	tests/vm/device arm64 $(OUT)/vm/arm64
	tests/vm/device armhf $(OUT)/vm/armhf
	EA_VM=$(abspath $(OUT))/vm EA_DIST=$(abspath $(OUT))/dist \
	    $(CARGO) test --test live -- --test-threads=1 --ignored vm:: power::

.PHONY: bench
bench: packages ## measure edgeagent beside a dockerd worker and on an emulated device (30 min and two builds)
	DIST_SBOM=no targets/build aarch64 || [ $$? = 3 ]
	tests/vm/device arm64 $(OUT)/vm/arm64
	@machine=$$(uname -m); \
	DIST_SBOM=no targets/build "$$machine"; built=$$?; \
	if [ $$built = 0 ] || [ $$built = 3 ]; then \
	    EDGEAGENT_BIN=$(OUT)/dist/$$machine/edgeagent; EA_BUILD='the static binary of targets/build'; \
	else \
	    $(CARGO) build --release || exit 1; \
	    EDGEAGENT_BIN=$(OUT)/release/edgeagent; EA_BUILD='a release build with glibc, not what ships'; \
	fi; \
	export EDGEAGENT_BIN EA_BUILD EA_VM=$(abspath $(OUT))/vm EA_DIST=$(abspath $(OUT))/dist; \
	$(CARGO) test --test live -- --test-threads=1 --ignored --nocapture bench::

.PHONY: dist
dist: ## release tarballs for devices into target/dist; TARGET=aarch64 for one, KEY=file signs with an SSH key
	DIST_KEY=$(KEY) targets/build $(TARGET)

.PHONY: dist-check
dist-check: ## build TARGET (default: this machine) in two folders and compare the tarballs (20 min)
	targets/twice $(or $(TARGET),$(shell uname -m))

.PHONY: lint
lint: ## formatting and clippy, warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) fmt --check --manifest-path tests/lab/Cargo.toml
	$(CARGO) clippy --all-targets --manifest-path tests/lab/Cargo.toml --target-dir $(OUT)/lab -- -D warnings

.PHONY: fuzz
fuzz: ## look for inputs that break a parser, SECONDS=60 each, TARGETS=…, JOBS=1 (needs cargo-fuzz); goes on where it ended
	@SECONDS_EACH=$(or $(SECONDS),60) JOBS=$(or $(JOBS),1) tests/fuzz/run $(if $(BACKGROUND),-b) $(TARGETS)

.PHONY: fuzz-background
fuzz-background: ## the same behind everything else that this machine does
	@$(MAKE) --no-print-directory fuzz BACKGROUND=yes

.PHONY: fuzz-status
fuzz-status: ## how long each parser was fuzzed, and what was found; make test replays what is in tests/fuzz/corpus
	@tests/fuzz/run -s

.PHONY: packages
packages: # what the tests and the demo need from Debian, installed when missing
	@tests/install-packages

.PHONY: clean
clean: ## remove what was built
	$(CARGO) clean
