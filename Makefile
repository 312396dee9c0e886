# `make` sets up an environment and runs the main job; `make test` sets up and tests,
# `make test-all` adds the slow tests, which repeat over more cells and tasks what the others check.
# Everything happens in .venv, which later runs reuse. The packages of requirements.txt are those of
# constraints.txt, verified by their hashes; `make lock` renews it; `make LOCK= test` ignores it.

PYTHON ?= python3
LOCK ?= constraints.txt
EXTRAS ?=  # more requirements files, e.g. EXTRAS=requirements-tables.txt
REQUIREMENTS := $(strip requirements.txt $(EXTRAS))
READY := .venv/ready-$(subst $() $(),+,$(REQUIREMENTS))

.PHONY: demo test test-slow test-all docs lint format lock clean

demo: $(READY)
	.venv/bin/python -m app.train sentiment
	.venv/bin/python -m app.predict sentiment "the plot , which the critics called dull , is far from dull"

# One worker per core, fewer where memory is short (tests/conftest.py).
PYTEST := .venv/bin/python -m pytest -n auto --dist loadfile

test: $(READY)
	$(PYTEST) -m "not slow"

test-slow: $(READY)
	$(PYTEST) -m slow -rs tests

test-all: test test-slow

# The documentation as a web site, in site/.
docs: .venv/ready-docs
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

format: $(READY)
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

$(READY): $(REQUIREMENTS) $(LOCK)
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(if $(LOCK),.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK))
	.venv/bin/python -m pip install --quiet --disable-pip-version-check $(addprefix -r ,$(REQUIREMENTS))
	touch $@

.venv/ready-docs: requirements-docs.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# For Python 3.11 and later, on every platform. Versions change only where a bound requires it: to
# renew all of them, remove constraints.txt first.
lock: .venv/ready-lock
	.venv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
		--custom-compile-command 'make lock' --output-file constraints.txt requirements.txt

.venv/ready-lock: requirements-lock.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

clean:
	rm -rf .venv
