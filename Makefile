# `make` sets up an environment and runs the main job; `make test` sets up and tests.
# Everything happens in .venv, which later runs reuse.

PYTHON ?= python3
EXTRAS ?=  # more requirements files, e.g. EXTRAS=requirements-benchmarks.txt
REQUIREMENTS := requirements.txt $(strip $(EXTRAS))
READY := .venv/ready-$(subst $() $(),+,$(REQUIREMENTS))

.PHONY: demo test lint format clean

demo: $(READY)
	.venv/bin/python -m app.train sentiment
	.venv/bin/python -m app.predict sentiment "the plot , which the critics called dull , is far from dull"

test: $(READY)
	.venv/bin/python -m pytest -n auto --dist loadfile

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

format: $(READY)
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

$(READY): $(REQUIREMENTS)
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check $(addprefix -r ,$(REQUIREMENTS))
	touch $@

clean:
	rm -rf .venv
