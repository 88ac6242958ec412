# flexload: `make demo` runs the main job, `make test` passes the tests. Both set up .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PRISM_LOCK := .ci/prism/package-lock.json
# Some tests wait for real processes more than they compute.
WORKERS ?= $(shell expr $$(nproc) + 2)

.PHONY: setup demo test lint bench lock clean

setup: $(STAMP)

# uv when it is there, else the standard library's venv and pip; the same hash-pinned lock for both.
$(STAMP): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "flexload needs Python 3.11 or later: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "setting up $(VENV)/ first, with everything that flexload needs; this takes a minute or two"
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
		uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.txt && \
		uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	else \
		$(PYTHON) -m venv $(VENV) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	fi
	@touch $(STAMP)

# make demo LISTEN=127.0.0.1:8000 puts the page elsewhere.
demo: setup
	$(BIN)/flexload demo $(if $(LISTEN),--listen $(LISTEN))

test: setup
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: setup
	$(BIN)/python -m tests.bench

# After a change of dependencies in pyproject.toml or .ci/prism. Needs uv and npm; records no addresses.
lock:
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --quiet --output-file requirements.txt
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --quiet --output-file requirements-dev.txt
	uv pip compile --group ci --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --quiet --output-file requirements-ci.txt
	uv pip compile --group elaad --universal --python-version 3.12 --generate-hashes \
		--no-header --no-annotate --quiet --output-file requirements-ci-elaad.txt
	npm --prefix .ci/prism install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund
	node -e 'f = "$(PRISM_LOCK)"; l = require("./" + f); for (p of Object.values(l.packages)) delete p.funding; fs.writeFileSync(f, JSON.stringify(l, null, 2) + "\n")'

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
