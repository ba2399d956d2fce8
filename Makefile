# imafs: `make test` proves it, `make demo` shows it. Both install what they need by apt; both need root to mount.

CARGO ?= cargo
TOOLS := target/tools
DENY := $(TOOLS)/bin/cargo-deny
DENY_VERSION := 0.20.2
PJDFSTEST := $(TOOLS)/bin/pjdfstest
PJDFSTEST_VERSION := 0.2.2
FSX := $(TOOLS)/bin/fsx
FSX_VERSION := 0.3.2

SEED ?= 1..5
OPS ?= 100

.PHONY: help build test test-engines demo soak crash bench bench-containers host-list semantics suites oracle fuzz check \
	deps keylime fmt fmt-check clippy doc deny clean

help:
	@echo "make build   the programs, in target/debug"
	@echo "make demo    a Debian root filesystem, signed, mounted, tampered with and refused: under 5 minutes"
	@echo "make test    formatting, lints, documentation, dependencies, and every test"
	@echo "make test-engines  containers of podman, Docker and containerd on checked root filesystems; installs those"
	@echo "make host-list  200 mounts on one TPM, 20 of them killed"
	@echo "make soak    20 minutes of mixed load on one mount (IMAFS_SOAK_SECONDS)"
	@echo "make semantics  pjdfstest and fsx on ext4, xfs, btrfs, tmpfs and overlayfs and on mounts of them (IMAFS_BACKINGS=..)"
	@echo "make crash   500 times kill -9 on a mount with a journal (IMAFS_CRASH_INSTANTS, IMAFS_CRASH_SEED)"
	@echo "make oracle  generated scenarios on a real kernel in qemu and on imafs (SEED=1..50 OPS=100 KEEP=dir)"
	@echo "make fuzz    fuzzes each parser of foreign bytes for 10 minutes (FUZZ_SECONDS)"
	@echo "make bench   what measuring costs, with and without a TPM and a journal; writes benches/results"
	@echo "make bench-containers  what imafs costs a container's start under each engine; installs those"
	@echo "make fmt     formats the sources"
	@echo "make check   what of 'make test' needs no root and no mount"

build: deps
	$(CARGO) build --workspace --bins

test: check keylime suites
	$(CARGO) build --workspace --bins
	CARGO="$(CARGO)" scripts/test.sh

# Ten containers and five kills an engine; IMAFS_ENGINE_CONTAINERS and IMAFS_ENGINE_KILLS ask for more.
test-engines: build
	@scripts/install-deps.sh engines
	@scripts/install-kubernetes-validate.sh
	RUST_LIB_BACKTRACE=0 $(CARGO) test -p integration --features engines --test engines

check: deps fmt-check clippy doc deny

demo: build
	scripts/demo.sh

host-list: build
	IMAFS_MOUNTS=200 $(CARGO) test -p integration --test host_list

soak: build
	target/debug/imafs-soak

bench: deps
	$(CARGO) build --release -p imafs -p sign -p benches --bins
	target/release/imafs-bench-journal
	target/release/imafs-bench-opens

semantics: build suites
	@scripts/install-deps.sh semantics
	target/debug/imafs-semantics

suites: $(PJDFSTEST) $(FSX)

$(PJDFSTEST): | deps
	$(CARGO) install --locked --debug --version $(PJDFSTEST_VERSION) --root $(TOOLS) --target-dir target/tools-build pjdfstest
	rm -rf target/tools-build

$(FSX): | deps
	$(CARGO) install --locked --version $(FSX_VERSION) --root $(TOOLS) --target-dir target/tools-build fsx
	rm -rf target/tools-build

bench-containers: deps
	@scripts/install-deps.sh engines
	$(CARGO) build --release -p imafs -p runtime -p sign -p benches --bins
	target/release/imafs-bench-containers

crash: build
	IMAFS_CRASH_INSTANTS=$${IMAFS_CRASH_INSTANTS:-500} $(CARGO) test -p integration --test crash -- --nocapture

oracle: build
	@scripts/install-deps.sh oracle
	RUST_LIB_BACKTRACE=0 target/debug/imafs-oracle --seed $(SEED) --ops $(OPS) $(if $(KEEP),--keep $(KEEP))

fuzz: deps
	scripts/fuzz.sh

deps:
	@scripts/install-deps.sh

keylime: deps
	@scripts/install-keylime.sh

fmt:
	$(CARGO) fmt --all

fmt-check:
	$(CARGO) fmt --all --check

clippy: deps
	$(CARGO) clippy --workspace --all-targets --features integration/engines -- -D warnings

doc: deps
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

deny: $(DENY)
	$(DENY) --workspace --log-level error check licenses bans sources

$(DENY): | deps
	$(CARGO) install --locked --debug --version $(DENY_VERSION) --root $(TOOLS) --target-dir target/tools-build cargo-deny
	rm -rf target/tools-build

clean:
	$(CARGO) clean
