# The developer interface. `make demo` and `make test` need Rust, gcc, make and git, the tests python3 with venv too;
# what else the tests need (mosquitto, openssl) scripts/setup installs from the distribution.
#
# One profile, built once: tests, flows and the demo all use dev (our crates at opt-level 1, every dependency at 2), because
# SM2 crawls without optimisation and release (fat LTO) takes minutes. `make release` makes what is shipped and weighed.
CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
SHELL := bash
BIN := $(TARGET_DIR)/debug
DEMO_DIR ?= $(TARGET_DIR)/demo

.PHONY: peers peers-nats drain fleet fuzz intake cross tarball hardening reproducible deb vm-test vm-quota demo test check asn1 build setup release doc-hash weigh footprint kill sim store-bench clean-demo help

help:
	@echo 'make demo      sell, meter, bill and prove a real workload on this machine (DEMO_DIR=target/demo)'
	@echo 'make test      everything the CI runs: formats, lints, all tests, flows with real brokers'
	@echo 'make check     formats and lints only'
	@echo 'make release   the programs as they are shipped'
	@echo 'make deb       Debian packages of agent and platform, in target/debian'
	@echo 'make tarball   static programs for x86_64 without a GPU, in target/tarball; PROFILE=cross is quick and large'
	@echo 'make hardening what readelf says of the release programs, held against packaging/hardening.txt'
	@echo 'make reproducible  the release programs built twice in two directories: the same bytes (many minutes)'
	@echo 'make cross     arm64, riscv64 and a bare Cortex-M4 under qemu (its own compiler and standard library, many minutes)'
	@echo 'make vm-test   a machine with systemd under qemu lives through restarts, power cuts and worse; VM_TEST=--short'
	@echo 'make vm-quota  project quotas of helper and meter, on the kernel of that machine'
	@echo 'make weigh     figures as ratios: exactness of the meter, cost of verifying'
	@echo 'make footprint memory, CPU and threads of the agent beside three monitors (18 minutes); FOOTPRINT=--smoke, --flat 10'
	@echo 'make drain     a day of a node without its platform, sent afterwards, beside mosquitto_pub (24 minutes); DRAIN="240 4"'
	@echo 'make fleet     agents against three NATS brokers of which one is killed, bills counted in PostgreSQL; FLEET="200 60"'
	@echo 'make kill      500 kill -9 of a process that appends to a ledger; make test has 60'
	@echo 'make fuzz      everything gm parses under libFuzzer, 60 s a parser (its own build); FUZZ="10 certificate"'
	@echo 'make intake    the platform taking in a recorded file of messages on PostgreSQL, beside the SM2 verifications in it'
	@echo 'make peers     what following a hundred nodes costs, and catching up with one, beside SM2 alone'
	@echo 'make peers-nats  nodes that fork, flood and sleep over three NATS brokers of which one is killed; make test has mosquitto'
	@echo 'make sim       nodes, platform and buyers under every fault from one seed: SEEDS=200 FROM=1; make test has these 200'
	@echo 'make store-bench  the ledger beside a plain file, SQLite, redb and sled (its own build, minutes); STORE_BENCH=--smoke'

demo: build
	$(BIN)/hufu demo --dir $(DEMO_DIR)

build:
	$(CARGO) build --workspace --bins --locked

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

# The flows run the programs of `build`, never link them; most of the time they wait, so there are more at once than cores. The platform's own
# tests run on both its databases. A failed test lets the others go on: one run tells all.
test: setup check build
	RUST_TEST_THREADS=3 HUFU_BIN_DIR=$(abspath $(BIN)) $(CARGO) test --workspace --locked --no-fail-fast
	tests=$$(scripts/test-binary hufu_platform) && cd platform && ../scripts/with-postgres "$$tests"
	$(MAKE) --no-print-directory asn1

# The golden files of the evidence under an ASN.1 compiler that is not ours.
asn1:
	scripts/python-env.sh
	target/py/bin/python tests/asn1/check_evidence.py

setup:
	scripts/setup

release:
	. packaging/flags.sh && $(CARGO) build --workspace --bins --locked --release

intake:
	$(CARGO) test --profile cross -p hufu-platform --lib --no-run --locked
	for run in 1 2 3 4 5; do HUFU_INTAKE=1 scripts/with-postgres $(CARGO) test --profile cross -p hufu-platform --lib --locked -- --nocapture intake_beside; done

peers:
	HUFU_PEERS=1 $(CARGO) test --profile cross -p hufu-agent --lib --locked -- --nocapture following_beside

doc-hash:
	scripts/doc-hash.sh

weigh: release
	HUFU_BIN_DIR=$(abspath $(TARGET_DIR)/release) benches/meter.py
	HUFU_BIN_DIR=$(abspath $(TARGET_DIR)/release) benches/accuracy.py
	CARGO_TARGET_DIR=$(abspath $(TARGET_DIR)) benches/sampling.py
	HUFU_BIN_DIR=$(abspath $(TARGET_DIR)/release) benches/verify.py

# Root and cgroups are needed. collectd is only unpacked, below target/. FOOTPRINT=--smoke is one round of 20 s.
footprint: release
	scripts/setup prometheus-node-exporter
	HUFU_BIN_DIR=$(abspath $(TARGET_DIR)/release) benches/footprint.py $(FOOTPRINT)

drain: release
	scripts/setup
	HUFU_BIN_DIR=$(abspath $(TARGET_DIR)/release) benches/drain.py $(DRAIN)

# Debian packages, in target/debian.
deb:
	packaging/deb.sh

tarball: setup
	packaging/tarball.sh

hardening: release
	packaging/hardening.sh $(TARGET_DIR)/release packaging/hardening.txt

# PACKAGES='hufu-provision' builds less.
reproducible:
	packaging/reproducible.sh $(PACKAGES)

# Other processors under qemu. CROSS='bare' runs less: arm64, riscv64, bare.
cross:
	cross/setup
	cross/test.sh $(CROSS)

# A Debian machine under qemu: packages installed, an order metered in its slice, and what happens to servers. VM_TEST=--short
vm-test:
	tests/vm/run.sh $(VM_TEST)

# The same machine's kernel, for project quotas: what the helper and the meter say of them.
vm-quota:
	tests/vm/quota.sh

# Root, network namespaces. FLEET='NODES SECONDS'.
fleet: release
	scripts/setup nats-server
	HUFU_BIN_DIR=$(abspath $(TARGET_DIR)/release) benches/fleet.py $(FLEET)

# The flow of peers over a cluster of three NATS brokers of which one is killed. Root.
peers-nats: build
	scripts/setup nats-server
	$(CARGO) test --workspace --locked --no-run
	HUFU_BIN_DIR=$(abspath $(BIN)) scripts/with-nats $(CARGO) test --workspace --locked --test all -- --nocapture peers::

kill:
	HUFU_KILL_ROUNDS=500 $(CARGO) test -p hufu-ledger --locked --test ledger -- --nocapture kill::nothing

# Not in the CI: minutes of its own. FUZZ='SECONDS TARGET..' is less.
fuzz:
	scripts/fuzz.sh $(FUZZ)

# A seed that fails prints itself; SEEDS=1 FROM=seed is the same course again.
SEEDS ?= 200
FROM ?= 1
sim:
	SEEDS=$(SEEDS) FROM=$(FROM) $(CARGO) test -p hufu-sim --locked --test seeds -- --nocapture --exact whatever_happens_the_market_keeps_its_word

# Not a part of `make test`: SQLite, redb and sled are minutes of compiling that nothing else needs. The CI runs the short one.
store-bench:
	$(CARGO) run --release --locked --manifest-path benches/store/Cargo.toml -- $(STORE_BENCH)

clean-demo:
	rm -rf -- $(DEMO_DIR)
