# Everything a developer runs. `make` alone prints what there is.
BIN := .venv/bin
# The first python3 that starts: a version manager's shim may be on PATH and fail.
BOOT := $(shell for p in python3 /usr/bin/python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help setup demo sim test test-all lint bench state-faults deep wheel docs clean

help:
	@echo 'make TARGET, where TARGET is one of'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

setup:  ## find Python >= 3.12, create .venv, install, build what changed
	@test -n "$(BOOT)" || { echo 'setup: no python3 >= 3.8 on PATH to start from' >&2; exit 1; }
	@$(BOOT) .ci/setup_env.py

demo: setup  ## five nodes form a cluster; kill some, then all; nothing is lost
	@$(BIN)/python -m barrel_p2p demo

sim: setup  ## clusters of 50 to 1,000 simulated nodes against their goals
	@$(BIN)/python -m barrel_p2p sim goals

test: setup  ## the fast suite; timing tests run alone at the end
	@$(BIN)/python .ci/run_tests.py

test-all:  ## the fast suite on every Python >= 3.12 found
	@$(BOOT) .ci/run_tests.py --every

lint: setup  ## ruff, mypy strict, stubtest, import layers, tidy tests, clang-format
	@$(BIN)/python .ci/lint.py

bench:  ## every path beside its peers; one JSON object each
	@$(BOOT) .ci/setup_env.py --group bench
	$(BIN)/python -m bench.transport --json
	$(BIN)/python -m bench.messages --json
	$(BIN)/python -m bench.overlay --json
	$(BIN)/python -m bench.state --json --dir build
	$(BIN)/python -m bench.codec --json
	$(BIN)/python -m pytest -q bench/micro

state-faults: setup  ## kills, power cuts, full disks and flipped bits; a JSON line a goal
	@$(BIN)/python -m tests.faults.run

deep: setup  ## whole loops and floods, every fuzz target, up to 10,000 nodes
	cmake -S . -B build/fuzz -DBARREL_FUZZ=ON -DCMAKE_C_COMPILER=clang
	cmake --build build/fuzz --target fuzz-deep
	$(BIN)/python tests/fuzz/fuzz_terms.py --seconds 60
	@BARREL_P2P_DEEP=1 $(BIN)/python .ci/run_tests.py
	$(BIN)/python -m barrel_p2p sim goals --deep
	$(BIN)/python -m tests.mutants.hunt
	$(BIN)/python -m tests.faults.run --deep

wheel: setup  ## build a wheel into dist/, repaired where auditwheel can
	@$(BIN)/python .ci/build_wheel.py

docs:  ## build the documentation into docs/_build/html, warnings are errors
	@$(BOOT) .ci/setup_env.py --group docs
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo 'docs: docs/_build/html/index.html'

clean:  ## remove what was built; environments and downloads stay
	rm -rf build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks .import_linter_cache
	find barrel_p2p -name '_*.so' -delete
	find barrel_p2p tests bench -name __pycache__ -prune -exec rm -rf {} +
	rm -f $(patsubst %.pyx,%.c,$(shell find barrel_p2p -name '_*.pyx'))
