# make run        set up, and run the demonstration: four instances behind http://127.0.0.1:3000/
# make test       set up, and pass the tests
# make test-all   the tests on every Python from 3.6 to 3.13 that is installed
# make lint       ruff and mypy
# make dist       dist/pupgevent: one file for servers with nothing but a python3; its manual page
# make smoke      run that file on hostile servers, and with every Python that is installed
# make smoke-debian11   and as an ordinary user in a Debian 11 of its own (debootstrap, root)
# make readme     bring README.md and the manual page up to what the code tells
# make lock       pin the newest wheels that fit in onefile/wheels.lock
# make bench      beside NGINX, HAProxy, direct; tcp, http, and both with TLS (Debian packages:
#                 nginx libnginx-mod-stream haproxy wrk openssl)
#
# BENCH="--rounds 1 --cases close" chooses what the bench does, see python -m bench --help; with
# BENCH="--against '.../bin/pupgevent'" another version is measured in the same rounds.
# PYTHON=python3.9 chooses the interpreter, TESTS="-k relay" what pytest runs.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 4
TESTS ?=
BENCH ?= --picture bench/results/bench.svg

bin := $(VENV)/bin
# The newest gevent lacks wheels for some old Pythons: the newest with one needs no compiler. What an
# earlier build has left would be installed too, modules of other names among it.
install := rm -rf build/lib; $(bin)/python -m pip install --quiet --prefer-binary
sources := $(wildcard *.py page/*) setup.cfg pyproject.toml

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test test-all lint bench dist smoke smoke-debian11 lock readme clean

run: $(VENV)/.installed
	$(bin)/pupgevent conf/app.toml

test: $(VENV)/.installed-test
	$(bin)/python -m pytest -n $(WORKERS) $(TESTS)

test-all: $(VENV)/.installed-dev
	$(bin)/python tests/every_python.py $(TESTS)

lint: $(VENV)/.installed-dev $(VENV)/.installed-test
	$(bin)/ruff check .
	$(bin)/mypy

bench: $(VENV)/.installed-bench
	$(bin)/python -m bench $(BENCH)

dist: dist/pupgevent dist/pupgevent.1

dist/pupgevent.1: docs/pupgevent.1
	mkdir -p dist
	cp $< $@

dist/pupgevent: $(VENV)/.installed-tools $(sources) $(wildcard onefile/*)
	$(bin)/python -m onefile.build --check $@

smoke: dist/pupgevent $(VENV)/.installed-test
	$(bin)/python -m pytest -q -n $(WORKERS) tests/test_dist.py $(TESTS)
	$(bin)/python -m onefile.smoke dist/pupgevent

smoke-debian11: dist/pupgevent
	onefile/debian11.sh dist/pupgevent

readme: $(VENV)/.installed
	$(bin)/python docs/readme.py

lock: $(VENV)/.python
	$(bin)/python -m onefile.fetch --lock

clean:
	rm -rf $(VENV) .tox build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip before 19.3 (Python 3.6 brings 18) does not know the wheels that gevent comes in; 21.3.1 runs
# on 3.6 and does.
$(VENV)/.python:
	$(PYTHON) -m venv --clear $(VENV)
	$(bin)/python -c 'import pip; exit(tuple(map(int, pip.__version__.split(".")[:2])) < (21, 3))' \
		|| $(bin)/python -m pip install --quiet pip==21.3.1
	touch $@

$(VENV)/.installed: $(VENV)/.python $(sources)
	$(install) .
	touch $@

$(VENV)/.installed-test: $(VENV)/.python $(sources)
	$(install) '.[test,browser]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: $(VENV)/.python $(sources)
	$(install) '.[dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: $(VENV)/.python $(sources)
	$(install) '.[bench]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-tools: $(VENV)/.python onefile/tools.txt
	$(install) --require-hashes -r onefile/tools.txt
	touch $@
