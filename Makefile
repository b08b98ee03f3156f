# What a developer and CI run. `make test` installs what the tests need when it is root, and says
# what to install when it is not.

CARGO ?= cargo
# Most end-to-end tests wait more than they compute.
THREADS ?= 8
# Seconds for each fuzz target.
SECONDS ?= 60
# Seeds of the simulator.
SEEDS ?= 10000
# Of the chaos: seconds, and the seed of what goes wrong.
CHAOS ?= 600
SEED ?= 1
# Of the soak.
MINUTES ?= 60
# Of the benches: rounds in which all targets take turns, and the niceness of what is measured.
ROUNDS ?= 10
NICE ?= 0

.PHONY: all test lint deny sim sim-size chaos fuzz bench soak pictures demo screenshots deb rpm oci package-test

all:
	$(CARGO) build --release --workspace

test:
	sh tests/setup.sh
	CARGO="$(CARGO)" sh tests/run.sh --test-threads=$(THREADS)
	$(CARGO) test --profile sim --test sim -- --test-threads=$(THREADS)

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --test sim -- -D warnings
	$(CARGO) fmt --manifest-path tests/fuzz/Cargo.toml --check
	$(CARGO) clippy --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz-lint -- -D warnings

# Licences, duplicate versions and sources. Advisories besides, where GitHub can be reached: cargo deny check.
deny:
	command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --locked
	$(CARGO) deny check bans licenses sources

# A simulated ring of directors, optimised and with all checks; one seed alone, with everything that
# happens: HOMING_SIM_SEED=<n> make sim
sim:
	HOMING_SIM_SEEDS=$(SEEDS) $(CARGO) test --profile sim --test sim -- --nocapture seeds

# What rings of 2 to 30 directors cost, simulated.
sim-size:
	$(CARGO) test --profile sim --test sim -- --nocapture size::

# Five directors under everything that goes wrong in a machine room, for a while: make chaos CHAOS=3600 SEED=7.
# Needs root.
chaos:
	sh tests/setup.sh
	HOMING_CHAOS_SECONDS=$(CHAOS) HOMING_CHAOS_SEED=$(SEED) $(CARGO) test --test chaos -- --nocapture nobody

fuzz:
	sh tests/fuzz/run.sh $(SECONDS)

# Every figure of tuning.md, into benches/results.md: half an hour, root, two CPUs with nothing else to do.
# Where they have: make bench NICE=-10
bench:
	sh tests/setup.sh
	$(CARGO) build --release --workspace
	$(CARGO) build --release -p loadgen --example uring_relay
	python3 benches/bench.py --rounds $(ROUNDS) --nice $(NICE)

# An hour at half load: memory and descriptors must stay as they are. For tuning.md: make soak MINUTES=60
soak:
	$(CARGO) build --release --workspace
	python3 benches/soak.py --minutes $(MINUTES)

# The pictures of tuning.md; needs root. On a machine with other work: make pictures PICTURES="--nice -20"
pictures:
	sh tests/setup.sh
	$(CARGO) build --release --workspace
	python3 benches/pictures.py $(PICTURES)

demo:
	$(CARGO) run --release -- demo

# The pictures of docs/http.md, taken of a running ring by the test of the page.
screenshots:
	HOMING_SCREENSHOTS=$(CURDIR)/docs/images $(CARGO) test --test http page::

# Packages, in target/packages. `deb` needs debhelper, `rpm` needs rpm, `oci` one of podman, buildah and docker.
deb rpm:
	$(CARGO) build --release --locked --bin homing
	sh dist/package.sh $@

oci:
	for tool in podman buildah docker; do \
	    command -v $$tool >/dev/null && exec $$tool build -f dist/oci/Containerfile -t homing .; \
	done; echo 'make oci: podman, buildah or docker is needed' >&2; exit 1

# Both packages: the deb on fresh Debians under a real systemd, the rpm unpacked. Needs root.
package-test: deb rpm
	sh tests/setup.sh
	sh tests/packages/run.sh target/packages/homing_*.deb
	sh tests/packages/rpm.sh target/packages/homing-*.rpm
