# Every target sets up what it needs. `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
AGAINST ?= main
CLIPS := benchmarks/data/nano_evaluation/clips
CONVERSATION := $(CLIPS)/7562c2d59d.ogg $(CLIPS)/97b1349fb0.ogg $(CLIPS)/ad93f8c355.ogg

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(STAMP) ## make .venv with everything pinned in requirements.lock

$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint requirements.lock --editable '.[api,local,test,lint,k8s,monitoring]'
	@touch $@

.PHONY: demo
demo: setup ## hold a spoken conversation of three turns through the whole system; the replies go to out/reply.wav
	$(BIN)/python -m services.local run -- $(BIN)/stepaudio talk $(CONVERSATION) --output out/reply.wav

.PHONY: up
up: setup ## start the whole system on this machine, and wait until it answers
	$(BIN)/python -m services.local up --detach

.PHONY: status
status: setup ## ask every part for an answer; show addresses and memory
	$(BIN)/python -m services.local status

.PHONY: down
down: setup ## stop what `make up` started
	$(BIN)/python -m services.local down

.PHONY: test
test: setup ## run every test this machine can run
	$(BIN)/pytest

.PHONY: golden
golden: setup ## parity with the released system: maximum and mean differences
	$(BIN)/pytest -m golden -rP

.PHONY: lint
lint: setup ## format, lint, strict types, walls between rooms, the public API
	$(BIN)/ruff format --check . && $(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports && $(BIN)/python -m protos lint

.PHONY: protos
protos: setup ## generate protos/gen and the document's table of errors
	$(BIN)/python -m protos generate

.PHONY: breaking
breaking: setup ## refuse changes of the public API that break clients of AGAINST (main)
	$(BIN)/python -m protos breaking --against $(AGAINST)

.PHONY: check
check: lint test ## all that needs no GPU

.PHONY: values
values: setup ## make the chart's schema and reference of its values.yaml
	$(BIN)/python -m helm.values_reference

.PHONY: chart
chart: setup ## everything about the chart and the images that needs no cluster
	$(BIN)/python -m helm.values_reference --check && $(BIN)/pytest tests/helm

.PHONY: checkov
checkov: setup ## look for weak places in the rendered chart (minutes)
	$(PYTHON) -m venv .venv-checkov && .venv-checkov/bin/pip install --quiet checkov==3.3.30 && mkdir -p out/chart
	for p in nano a800x4 h800x8 h200x4 multi-node; do "$$($(BIN)/python -m helm.tools)" template voice helm/stepaudio --namespace stepaudio --values helm/stepaudio/values/$$p.yaml > out/chart/$$p.yaml || exit 1; done
	.venv-checkov/bin/checkov --config-file helm/checkov.yaml --directory out/chart

.PHONY: promtool
promtool: out/tools/usr/bin/promtool ## fetch promtool and Prometheus for the tests that need them

out/tools/usr/bin/promtool:
	mkdir -p out/tools && cd out/tools && apt-get download --quiet prometheus
	dpkg-deb --extract out/tools/prometheus_*.deb out/tools

.PHONY: monitoring
monitoring: setup ## generate the rules of objectives and the dashboards
	$(BIN)/python -m monitoring

.PHONY: images
images: ## build the images that need no GPU; PYTHON_DIGEST names the base
	docker buildx bake nano --metadata-file out/images.json

.PHONY: podman
podman: setup ## nightly, as root: build the images, run the nano pods with podman, ask them a question
	nice -n 5 $(BIN)/python -m helm.containers

.PHONY: bench
bench: setup ## measure every figure of the README (about 40 minutes)
	$(BIN)/pip install --quiet --constraint requirements.lock --editable '.[judge]'
	$(BIN)/python -m benchmarks

.PHONY: fullsize-check
fullsize-check: setup ## drive random weights of the public sizes through loaders, exports and servers (minutes, 10 GiB)
	$(BIN)/pip install --quiet --constraint requirements.lock --editable '.[engine]'
	$(BIN)/python -m benchmarks.fullsize

.PHONY: gpu
gpu: setup ## measure the rooms on this machine's GPU, engine beside engine; docs/gpu.md
	$(BIN)/pip install --quiet --constraint requirements.lock --editable '.[engine]'
	$(BIN)/python -m benchmarks.gpu

.PHONY: lock
lock: setup ## resolve pyproject.toml into requirements.lock again
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-header --no-annotate --output-file requirements.lock

.PHONY: clean
clean: ## remove .venv and everything generated
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache out
