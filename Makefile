# Python 3.11 to 3.13; another one: make PYTHON=python3.12 ...
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DIR ?= quickstart

.PHONY: help quickstart test test-slow test-all lint docs site dist release constraints clean

help:
	@echo "make quickstart   install; then draw toy pets, convert, train, evaluate, predict"
	@echo "make test         install; then lint, import contracts and the quick tests (minutes)"
	@echo "make test-slow    the tests marked slow, which CI runs, too"
	@echo "make test-all     lint, import contracts and every test"
	@echo "make lint         lint and import contracts only"
	@echo "make docs         write the generated pages of docs/ again"
	@echo "make site         build the documents as a site into site/"
	@echo "make dist         build the wheel and the source distribution into dist/"
	@echo "make release      the same, and checks their metadata; uploads nothing"
	@echo "make constraints  pin the newest versions that the requirements allow"
	@echo "make clean        remove the environment, dist/, site/ and the quickstart's output"

quickstart: $(VENV)/installed
	$(BIN)/python tools/quickstart.py --dir=$(DIR)

test: $(VENV)/installed-test lint
	$(BIN)/python -m pytest -n 3 --dist loadgroup -m "not slow and not long"

test-slow: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 3 --dist loadgroup -m "slow and not long"

test-all: $(VENV)/installed-test lint
	$(BIN)/python -m pytest -n 3 --dist loadgroup

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

docs: $(VENV)/installed
	$(BIN)/python tools/write_docs.py

site: $(VENV)/installed-docs
	$(BIN)/mkdocs build --strict

dist: $(VENV)/installed-release
	rm -rf dist
	$(BIN)/python -m build --no-isolation

# Builds, and checks what would be uploaded; uploads nothing.
release: dist
	$(BIN)/twine check --strict dist/*

constraints:
	rm -rf $(VENV)-pins
	$(PYTHON) -m venv $(VENV)-pins
	$(VENV)-pins/bin/pip install --quiet ".[test,profile,docs,notebook,release]"
	$(VENV)-pins/bin/pip freeze --all --exclude petseg --exclude pip > constraints.txt
	rm -rf $(VENV)-pins

clean:
	rm -rf $(VENV) $(DIR) build dist site

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "error: $(PYTHON) is not Python 3.11 to 3.13; try make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BIN)/python constraints.txt setup.cfg
	@echo "installing TensorFlow and what else petseg needs: minutes, about 3 GB of disk"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/installed-test: $(BIN)/python constraints.txt setup.cfg
	@echo "installing TensorFlow, and what tests need: minutes, about 4 GB of disk"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	@touch $@ $(VENV)/installed

$(VENV)/installed-docs: $(BIN)/python constraints.txt setup.cfg
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	@touch $@ $(VENV)/installed

$(VENV)/installed-release: $(BIN)/python constraints.txt setup.cfg
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[release]"
	@touch $@ $(VENV)/installed
