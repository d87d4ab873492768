# The two commands of the README (demo, test) and what they are made of.

CARGO ?= cargo
# Tests stop the process at fault points, which only this feature builds.
TEST_FLAGS := --workspace --features inlet/faults

.PHONY: install deb tarball test-package test-boot test-boot-vm release-check build build-tests demo test test-vm gate check fmt lint docs fences guarantees supply sbom fuzz soak bench deps

build: deps
	$(CARGO) build --release

# As root, what `make` has built. PREFIX is /usr/local, DESTDIR is for packages.
install:
	scripts/install --prefix "$(or $(PREFIX),/usr/local)" --destdir "$(DESTDIR)"

# target/package/inlet_VERSION_ARCH.deb, for this release of Debian and newer ones.
deb: build
	@scripts/deps package
	scripts/package deb

# Installs that package in fresh root file systems of Debian 12 and 13, and purges it again. As root.
test-package: deb
	scripts/test-package

# Boots Debian 13 with that package in a container with systemd: rules in force before the first service, a boot with a
# bad file, an upgrade, a purge. As root.
test-boot: test-package
	scripts/test-boot

# Boots Debian 13 as a machine under qemu, with that package, servers and containers. As root.
test-boot-vm: deb
	@scripts/deps vm package
	scripts/test-boot-vm

# All that a release needs but the tag: see CONTRIBUTING.md.
release-check: check test test-boot test-boot-vm tarball
	scripts/release-check

# target/package/inlet-VERSION-ARCH.tar.gz: needs nothing of the host but the C library, of this age or newer.
tarball: deps
	scripts/package tarball

# Everything that the build and the tests need from Debian or Ubuntu: installed when root, else the line to run.
deps:
	@scripts/deps test

demo: deps
	$(CARGO) build --release -p inlet-cli
	scripts/demo

# Without and with root: the tests of the kernel skip themselves when they are not root, and with CI=true a skip fails.
# So do the ones of a Go server and of chronyd where there is none, and the recipe of QUIC where there is no aioquic.
test: deps
	@[ "$$(id -u)" != 0 ] || { scripts/go fetch; scripts/chronyd fetch; scripts/aioquic fetch; } || true
	$(CARGO) test $(TEST_FLAGS)

# What the tests, the fuzzers and the gate run, built and not run.
build-tests: deps
	$(CARGO) test $(TEST_FLAGS) --no-run
	$(CARGO) build --release -p inlet-bench
	FUZZ_SECONDS=0 scripts/fuzz

# The root tests on Debian's 6.1 and 6.12 kernels, or on the kernel given: make test-vm KERNEL=path/to/bzImage
test-vm:
	@scripts/deps vm
	scripts/test-vm $(KERNEL)

# Fails when the lookup program or the image compiler got clearly worse. Without root it is skipped, and with CI=true a
# skip fails.
gate: deps
	$(CARGO) run --release -p inlet-bench -- gate

# What CI checks before the tests.
check: fmt lint docs fences guarantees supply

fmt:
	$(CARGO) fmt --check
	clang-format --dry-run --Werror crates/*/src/bpf/*.[ch]

lint:
	$(CARGO) clippy $(TEST_FLAGS) --all-targets -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

fences:
	scripts/fences

# Every test that SECURITY.md and docs/guarantees.md name is there.
guarantees:
	scripts/guarantees

# What comes from others: sources, licences, versions.
supply:
	scripts/supply

# The bill of materials of the command (CycloneDX).
sbom:
	scripts/supply sbom > target/inlet.cdx.json

# Inputs that are nearly right, guided by coverage, for FUZZ_SECONDS (60) in all.
fuzz: deps
	scripts/fuzz

# Hours of what every test run does a part of, with a table at the end; INLET_SOAK_PERCENT=1 takes minutes.
soak: deps
	scripts/soak

# At most ten minutes, with fewer samples on a machine where they take long; inlet-bench --thorough takes all.
bench: deps
	$(CARGO) build --release
	target/release/inlet-bench all
