# make search    install everything into .venv, then a real search on the bundled digits
# make test      the tests
# make check     the whole gate: format, lint, types, docs/cli.md up to date, tests
# make drills    kills, locks, full disks, several processes, sanitizers, the commands of all pages: half an hour and
#                more, with figures
# make fuzz      every reader of files on FUZZ_COUNT=100000 spoiled inputs: an hour or more, with figures
# make bench     the benchmarks, correctness first
# make docs      the documentation as a site in site/, warnings as errors
# make clean     remove .venv and what was built (never runs/)
#
# PYTHON=python3.13 chooses the interpreter; SEARCH_ARGS and PYTEST_ARGS are passed on; PYTEST_PROCESSES=0 runs
# the tests in one process.

PYTHON ?= python3
SEARCH_ARGS ?=
PYTEST_ARGS ?=
PYTEST_PROCESSES ?= 3
FUZZ_COUNT ?= 100000
FUZZ_ARGS ?=

BIN := .venv/bin
SOURCES := $(shell find nas_cntk search_spaces -type f -not -path '*/__pycache__/*' -not -name '*.so' 2>/dev/null) CMakeLists.txt README.md LICENSE

# The pins hold for everything pip installs, inside build isolation too. (Relative, so that a path with spaces works.)
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Several processes share the processors: BLAS and torch with threads of their own would only wait for each other.
RUN_TESTS = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n $(PYTEST_PROCESSES) --dist worksteal $(PYTEST_ARGS)

.DELETE_ON_ERROR:
.PHONY: install search test check drills fuzz bench docs clean

install: .venv/.package

search: install
	$(BIN)/nas-cntk search $(SEARCH_ARGS)

test: install
	$(RUN_TESTS)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/make_cli.py --check
	$(RUN_TESTS)

drills: install
	$(BIN)/pytest -q --long tests/drills $(PYTEST_ARGS)
	$(BIN)/pytest -q --long -m long --ignore=tests/drills $(PYTEST_ARGS)

fuzz: install
	PYTHONPATH=tests $(BIN)/python -m fuzz --count $(FUZZ_COUNT) $(FUZZ_ARGS)

bench: install
	$(BIN)/python benchmarks

docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --clean
	@echo "the documentation is in site/index.html; its search works where it is served: python3 -m http.server -d site"

clean:
	rm -rf .venv build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis nas_cntk/kernels/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What we depend on, with what builds and checks the package. The package itself comes after, so that a
# changed source file does not ask pip to look at forty dependencies again.
.venv/.dependencies: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("error: nas-cntk needs Python 3.11 or newer, $(PYTHON) is %d.%d; name another one with: make PYTHON=python3.13" % v[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the dependencies into .venv (once; minutes) ..."
	@$(BIN)/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; o = p["optional-dependencies"]; print(*p["dependencies"], *o["train"], *o["dev"], sep="\n")' > .venv/requirements.txt
	@command -v cmake > /dev/null || echo cmake >> .venv/requirements.txt
	@$(BIN)/python -m pip install --quiet -r .venv/requirements.txt
	@touch $@

# Not editable: the compiled core is installed beside the Python files, and what is tested is what ships.
# Without isolation, so that build/ keeps its object files from one call to the next. The core is copied into the
# source tree too: Python started here finds this folder's nas_cntk before the installed one.
.venv/.package: .venv/.dependencies $(SOURCES)
	@for c in "$$CXX" c++ g++ clang++; do command -v "$$c" > /dev/null && exit 0; done; \
		echo "error: nas-cntk needs a C++20 compiler to build its core and found none; install g++ or clang++, or set CXX" >&2; exit 1
	@echo "building nas-cntk and installing it into .venv ..."
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --force-reinstall .
	@for core in .venv/lib/python3*/site-packages/nas_cntk/kernels/_native*.so; do \
		cp "$$core" nas_cntk/kernels/.core && mv nas_cntk/kernels/.core "nas_cntk/kernels/$${core##*/}"; done
	@touch $@

# What builds the site; it reads the sources, and needs no installed nas-cntk.
.venv/.docs: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' > .venv/docs-requirements.txt
	@$(BIN)/python -m pip install --quiet -r .venv/docs-requirements.txt
	@touch $@
