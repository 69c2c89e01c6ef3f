# Everything runs in .venv; constraints.txt holds the versions that the course was tested with.
PYTHON ?= python3
COLAB_PYTHON ?= python3.13
OLDEST_PYTHON ?= python3.11
NEWEST_PYTHON ?= python3.13
BIN := .venv/bin

.PHONY: lab test unit slow browser notebooks colab oldest newest links assignments classroom usb reference readme lint licences audit clean

.venv/course: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[course]"
	touch $@

.venv/test: .venv/course
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[course,test]"
	touch $@

lab: .venv/course  ## set up and open the course
	$(BIN)/jupyter lab --ServerApp.root_dir=. notebooks/00_start_here.ipynb

test: .venv/test lint  ## set up and test: units and doctests, then every notebook
	$(BIN)/pytest
	$(BIN)/pytest -m notebook tests/test_notebooks.py

unit: .venv/test
	$(BIN)/pytest

slow: .venv/test  ## the full-size architecture with random weights: 6 GB of memory, minutes
	$(BIN)/pytest -m slow

browser: .venv/test  ## JupyterLab, its widgets, the page of browser_demo; needs Chromium (apt install chromium), npm
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[browser]"
	$(BIN)/pytest -m browser -rs

notebooks: .venv/test  ## run, clean and save every notebook
	$(BIN)/python tests/refresh_notebooks.py

build/colab/ready: tests/colab.txt
	$(COLAB_PYTHON) -m venv --clear build/colab
	build/colab/bin/pip install --quiet --requirement tests/colab.txt
	touch $@

colab: .venv/test build/colab/ready  ## every notebook with Colab's versions, alone in a folder
	$(BIN)/pytest -m colab -rs tests/test_colab.py

oldest: .venv/test  ## the units with the oldest versions that pyproject.toml allows
	$(OLDEST_PYTHON) -m venv --clear build/oldest
	$(BIN)/python tests/floors.py > build/oldest/floors.txt
	build/oldest/bin/pip install --quiet --constraint build/oldest/floors.txt --editable ".[test]"
	build/oldest/bin/pytest

newest:  ## the units with the newest versions that there are
	$(NEWEST_PYTHON) -m venv --clear build/newest
	build/newest/bin/pip install --quiet --editable ".[test]"
	build/newest/bin/pytest

links: .venv/test  ## write the address of pyproject.toml into badges, set-up cells and pages
	$(BIN)/python tests/link_notebooks.py

assignments: .venv/test  ## the students' version of every assignment, in build/assignments
	$(BIN)/python tests/release_assignments.py

classroom: .venv/test  ## nbgrader's whole cycle on every assignment, with three submissions
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[classroom]"
	$(BIN)/pytest -m notebook -rs tests/test_nbgrader.py

usb: .venv/test  ## the whole course for a classroom without a network, in build/usb; tried out
	$(BIN)/python tests/make_usb.py
	$(BIN)/pytest -m slow -rs tests/test_usb.py

reference: .venv/test  ## the pages of every public name, in build/reference; a warning is an error
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[reference]"
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -d build/doctrees \
		notebooks/reference build/reference

readme: .venv/test  ## the table and the picture of mini in README.md: after new weights
	$(BIN)/python notebooks/reference/renew_readme.py

lint: .venv/test  ## style, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

licences: .venv/test  ## of every installed package; fails on one that is not accepted
	$(BIN)/python tests/licences.py

audit: .venv/test  ## known vulnerabilities; fails too where the database cannot be reached
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet pip-audit
	$(BIN)/pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' > build/audit/installed.txt
	build/audit/bin/pip-audit --strict --no-deps --disable-pip -r build/audit/installed.txt

clean:
	rm -rf .venv build *.egg-info
