# Every target works on a fresh Debian or Ubuntu as root: what is missing is installed.
# As another user, what to install is said in one line.

SHELL = /bin/bash
PREFIX ?= /usr/local
VENV := .venv
BIN := $(VENV)/bin
HELPER := src/boxwright/_native/boxwright-helper
LAUNCHER := native/build/launcher
LIBDIR = $(PREFIX)/lib/boxwright
PYTEST := $(BIN)/python -m pytest
# `guest` has an emulator, for tests in a machine with another kernel; TEST_PACKAGES= installs nothing
TEST_PACKAGES ?= run test peers guest vm

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_ROOT_USER_ACTION = ignore

.PHONY: all
all: venv helper

.PHONY: help
help:
	@echo 'targets: venv helper run test test-unit test-peers test-guest test-vm lint bench docs pictures install clean'

# ── building ────────────────────────────────────────────────────────────────────────────────────────────────────────

.PHONY: venv
venv: $(VENV)/.done
	@$(MAKE) --no-print-directory $(BIN)/boxwright

$(VENV)/.done: pyproject.toml
	@tools/base-python >/dev/null 2>&1 || tools/install-packages python
	@base=$$(tools/base-python) && { "$$base" -c 'import ensurepip, venv' 2>/dev/null || tools/install-packages python; }
	base=$$(tools/base-python) && "$$base" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

# The console script that pip makes is replaced by one that starts faster: it holds what it has loaded, and starts from
# the sources while they are newer than it.
$(BIN)/boxwright: $(VENV)/.done tools/make-launcher tools/base-python tools/frozen-command.py native/launcher.c \
		$(shell find src/boxwright -name '*.py')
	@$(MAKE) --no-print-directory launcher
	@site=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
		"$$(tools/base-python)" tools/make-launcher --freeze $(LAUNCHER) $(BIN)/boxwright-unfrozen $@ src "$$site"
	@ln -sf boxwright $(BIN)/boxwright-vm

# Without it the command starts slower, and nothing else changes.
.PHONY: launcher
launcher:
	@command -v gcc >/dev/null || tools/install-packages build
	@base=$$(tools/base-python) && $(MAKE) --no-print-directory -C native launcher PYTHON="$$base" || rm -f $(LAUNCHER)

.PHONY: helper
helper:
	@command -v musl-gcc >/dev/null && command -v gcc >/dev/null || tools/install-packages build
	@$(MAKE) --no-print-directory -C native
	@cmp -s native/build/boxwright-helper $(HELPER) || install -D -m 755 native/build/boxwright-helper $(HELPER)
	@git rev-parse HEAD 2>/dev/null >$(dir $(HELPER))commit || rm -f $(dir $(HELPER))commit

.PHONY: run
run: venv helper
	@tools/install-packages run vm
	$(BIN)/boxwright run -- python3 -c "import os, platform; print(os.getpid(), platform.node(), os.listdir('/')[:5])"

# DESTDIR is for packagers: the command is written for PREFIX. It holds nothing loaded then, as nothing is there to load.
FREEZE = $(if $(DESTDIR),,--freeze $(LAUNCHER) '$(LIBDIR)/boxwright-unfrozen')
.PHONY: install
install: helper launcher
	rm -rf '$(DESTDIR)$(LIBDIR)'
	install -d '$(DESTDIR)$(LIBDIR)'
	cp -R src/boxwright '$(DESTDIR)$(LIBDIR)/'
	find '$(DESTDIR)$(LIBDIR)' -name __pycache__ -prune -exec rm -r {} +
	base=$$(tools/base-python) && \
		"$$base" -m compileall -q -s '$(DESTDIR)' '$(DESTDIR)$(LIBDIR)' && \
		"$$base" tools/make-launcher $(FREEZE) '$(DESTDIR)$(PREFIX)/bin/boxwright' '$(LIBDIR)' \
			$$("$$base" -c 'import site; print(*site.getsitepackages())')
	ln -sf boxwright '$(DESTDIR)$(PREFIX)/bin/boxwright-vm'

# ── testing ─────────────────────────────────────────────────────────────────────────────────────────────────────────

.PHONY: lint
lint: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m mypy

.PHONY: test-prepare
test-prepare: venv helper
	@tools/install-packages $(TEST_PACKAGES)

# Everything, other projects' suites too: one summary, and it comes last.
.PHONY: test
test: test-prepare lint
	@$(PYTEST) $(PYTEST_ARGS)

.PHONY: test-unit
test-unit: venv
	@$(PYTEST) tests/unit $(PYTEST_ARGS)

.PHONY: test-peers
test-peers: test-prepare
	@$(PYTEST) -m peers $(PYTEST_ARGS)

.PHONY: test-guest
test-guest: test-prepare
	@$(PYTEST) -m guest $(PYTEST_ARGS)

.PHONY: test-vm
test-vm: test-prepare
	@$(PYTEST) -m vm $(PYTEST_ARGS)

.PHONY: bench
bench: venv helper
	@tools/install-packages run test vm
	@$(BIN)/python -m benchmarks

# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────

.PHONY: docs
docs: venv
	$(BIN)/python tools/write-docs

.PHONY: pictures
pictures: venv helper
	@tools/install-packages run test
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/record-terminal docs/pictures/terminal.script docs/pictures/terminal.svg

.PHONY: clean
clean:
	[ ! -e native/Makefile ] || $(MAKE) --no-print-directory -C native clean
	rm -rf $(VENV) build dist src/*.egg-info src/boxwright/_native .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -r {} +
