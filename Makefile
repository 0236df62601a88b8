# make setup   create the environment in .venv from the lock
# make demo    setup, then train, evaluate and predict on drawn images
# make test    setup, then run every check
# make docs    setup, then build the documentation and serve it on this machine: http://127.0.0.1:8001
# make lock    update the lock from pyproject.toml

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
STAMP := $(VENV)/.set-up

.PHONY: setup demo test units lint types imports docs docs-html lock clean

setup: $(STAMP)

$(STAMP): requirements/bootstrap.txt requirements/lock.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' || \
		{ echo "Solobox needs Python 3.11.4 or later; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/bootstrap.txt
	VIRTUAL_ENV=$(VENV) $(UV) pip sync --quiet --compile-bytecode --require-hashes requirements/bootstrap.txt requirements/lock.txt
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: setup
	$(BIN)/solobox demo -o demo

# mypy has one process, so it runs beside the tests.
test: lint imports
	$(MAKE) --jobs=2 types units

# One process per processor with one thread each, since the tests are many and small. Long test files first, in the order of
# tests/conftest.py. If a process dies the run ends; otherwise the other processes would wait for it.
units: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

docs-html: setup
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --nitpicky --builder html docs docs/_build

docs: docs-html
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory docs/_build 8001

lock: setup
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --extra train --extra datasets --extra autolabel --extra loggers \
		--extra openvino --extra video --extra heif --extra parquet --extra ray --extra lite2 --extra hub \
		--override requirements/override.txt \
		--group dev pyproject.toml -o requirements/lock.txt
	echo uv | $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate --no-emit-index-url - -o requirements/bootstrap.txt

clean:
	rm -rf $(VENV) demo docs/_build docs/_generated .mypy_cache .ruff_cache .pytest_cache .hypothesis
