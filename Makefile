# make setup   .venv from the pinned lists in requirements/ (about 2 GB; needs the network once)
# make jam     a page opens: play, or drop a song on it, and a model plays along, live (docs/guides/live.md)
# make demo    the shipped model plays held-out music, then learns from more: corpus, tokens, streaming, scores, pages
# make test    the test suite; make test-page: the live page in Chromium, on a machine with nothing else to do
#              make test-replicas: two servers behind one address, on Ray (a minute)
#              make fuzz: the property tests with other examples than the suite's, new ones each time
# make bench-gpu   the runtime's targets on a GPU, into benchmarks/results/gpu.md; make bench-cpu: on this CPU (cpu.md)
# make torture bits, disks, signals and kills at random against everything: docs/guides/reliability.md (some minutes; TIMES=3: more)
# make docs    the site of docs/, into build/site/index.html; make notebooks executes its notebooks (two minutes)
# make lint    ruff: rules and format          make format   let ruff mend both
# make types   mypy over the installed names   make clean    remove caches and builds (not .venv, data, runs)
#
# Settings: PYTHON=python3.11  TORCH=auto|cpu|cuda  WORKERS=2 (test processes)  MINUTES=12 (of music in the demo's corpus)
#           ONLY="step train" (these benchmarks only)

VENV := .venv
BIN := $(VENV)/bin
TORCH ?= auto
WORKERS ?= 2
MINUTES ?= 12
TIMES ?= 1
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && { echo $$p; break; }; done)

# Idle OpenMP threads that spin steal time from the ones at work.
export OMP_WAIT_POLICY := passive

.PHONY: setup jam demo test fuzz test-page test-compile test-replicas torture bench-gpu bench-cpu lint format types names docs notebooks clean
.DEFAULT_GOAL := help
.PHONY: help
help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' $(MAKEFILE_LIST)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or 3.12 found (the pinned libraries have builds for these)." \
		"Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "accomp needs Python 3.11 or newer; \
	$(PYTHON) is %d.%d. Name another: make setup PYTHON=python3.11" % v[:2])'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Could not make $(VENV); on Debian and Ubuntu this wants the" \
		"package python3-venv (or python3.11-venv)." >&2; exit 2; }

setup: $(BIN)/python
	@$(BIN)/python requirements/install.py --torch $(TORCH)

demo: setup
	$(BIN)/accomp corpus mini-slakh data/mini-slakh --minutes $(MINUTES)
	$(BIN)/accomp generate demo --model pretrained --run runs/pretrained
	$(BIN)/accomp evaluate demo --run runs/pretrained
	$(BIN)/accomp report demo --run runs/pretrained
	@echo "The shipped model's page: runs/pretrained/report.html; now it learns from this music, too"
	$(BIN)/accomp run demo
	$(BIN)/accomp compare runs/pretrained runs/demo --out runs/comparison.html
	@echo
	@echo "The pages: runs/pretrained/report.html (before), runs/demo/report.html (after), runs/comparison.html (both)"
	@echo "Next:  hear it        $(BIN)/accomp stream pretrained --input IN.wav --output OUT.wav --instrument Bass --metronome 120bpm"
	@echo "       from nothing   $(BIN)/accomp run quickstart"
	@echo "       change it      copy specs/demo.toml, edit, then $(BIN)/accomp run YOURS.toml"
	@echo "       what there is  $(BIN)/accomp plugins"

test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS)

fuzz: setup
	ACCOMP_FUZZ=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) -m hypothesis

# A browser plays by the clock: alone, one test after another.
test-page: setup
	ACCOMP_BROWSER=1 $(BIN)/pytest tests/core/serving/page tests/core/pages

test-compile: setup
	ACCOMP_COMPILE=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) tests/core/streaming/test_row_kernels.py \
		tests/core/streaming/kernels/test_gpu_code.py tests/core/streaming/kernels/test_launches.py \
		tests/core/training/test_compiled_objectives.py tests/core/model/test_sampling.py tests/core/offline/test_framewise.py \
		tests/core/bench/test_bench_suite.py

test-replicas: setup
	ACCOMP_REPLICAS=1 OMP_NUM_THREADS=1 $(BIN)/pytest tests/core/serving/test_serving_replicas.py

jam: setup
	$(BIN)/accomp jam

torture: setup
	OMP_NUM_THREADS=1 $(BIN)/python tests/torture --times $(TIMES) --write

# What an earlier part of the suite measured on the same machine is kept. Threads that play wait awake for each other.
bench-gpu bench-cpu: bench-%: setup
	env -u OMP_WAIT_POLICY $(BIN)/accomp bench suite benchmarks/$*.toml --json benchmarks/results/$*.json $(addprefix --only ,$(ONLY))

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# `accomp` maps several folders to one name; tools that read sources see it through links (see [tool.mypy] in pyproject.toml).
names:
	@mkdir -p .cache/types/accomp
	@for folder in core plugins zarr_store specs; do ln -sfn ../../../$$folder .cache/types/accomp/$$folder; done
	@for file in accomp/*; do ln -sfn ../../../$$file .cache/types/$$file; done

types: setup names
	$(BIN)/mypy

docs: setup names
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The site: build/site/index.html"

notebooks: setup
	$(BIN)/python docs/site/execute.py

clean:
	rm -rf build dist *.egg-info .cache .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
