# KeyHub: `make up` makes everything ready on a laptop, `make test` runs the tests.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MANAGE := $(BIN)/python manage.py
INSTALLED := $(VENV)/.requirements-installed
CATALOGUE := keyhub/locale/ja/LC_MESSAGES/django.po
PORT ?= 8443

.PHONY: help up run serve down test browser screenshots lint lock messages
.DEFAULT_GOAL := help

help:
	@echo "make up     environment, embedded PostgreSQL, migrate, auditpartitions, dbhealth, first operator"
	@echo "make run    the admin site on http://127.0.0.1:8000/admin/ (development server)"
	@echo "make serve  the site as production runs it, on https://127.0.0.1:$(PORT)/admin/ (gunicorn)"
	@echo "make down   stop the embedded PostgreSQL"
	@echo "make test   lint and tests"
	@echo "make screenshots   docs/screenshots anew, for docs/site.md"
	@echo "make lock   write requirements.lock and requirements-production.lock anew from pyproject.toml"
	@echo "make messages   the words of the site, collected for its Japanese catalogue and compiled (needs gettext)"

up: $(INSTALLED) .env
	@$(MANAGE) migrate
	@$(MANAGE) auditpartitions
	@$(MANAGE) dbhealth
	@$(MANAGE) firstoperator
	@echo "Ready. The admin: make run, then http://127.0.0.1:8000/admin/"

run: $(INSTALLED) .env
	@$(MANAGE) runserver 127.0.0.1:8000

serve: $(INSTALLED) .env
	@$(BIN)/python -m keyhub.serve --port $(PORT)

down: $(INSTALLED) .env
	@$(MANAGE) embedded stop

test: $(INSTALLED) lint browser
	@$(BIN)/python -m pytest
	@if [ -x "$(OLDEST_POSTGRES)/postgres" ]; then \
		echo "The database tests again, on the PostgreSQL of $(OLDEST_POSTGRES):"; \
		KEYHUB_TEST_POSTGRES_BIN="$(OLDEST_POSTGRES)" $(BIN)/python -m pytest -m "database and not once"; \
	else \
		echo "No PostgreSQL in $(OLDEST_POSTGRES): the database tests ran on the embedded one alone."; \
	fi
OLDEST_POSTGRES ?= /usr/lib/postgresql/15/bin

# Never fails: where none is to be had, the tests that need it are skipped. Ubuntu's chromium is a stub that asks for snap.
browser:
	@for program in chromium chromium-browser google-chrome; do $$program --version >/dev/null 2>&1 && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Chromium, for the tests of the site …"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
			</dev/null >/dev/null 2>&1 && chromium --version >/dev/null 2>&1 && exit 0; \
	fi; \
	echo "There is no Chromium here, and it could not be installed: the tests of the site in a browser are skipped."

screenshots: $(INSTALLED) browser
	@$(BIN)/python -m pytest -n 0 tests/browser/screenshots.py

lint: $(INSTALLED)
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet

# The order and the header are those of the words alone, so that an edit elsewhere changes nothing here.
messages: $(INSTALLED)
	@$(MANAGE) makemessages --locale ja --no-obsolete --no-location --no-wrap $(foreach folder,.venv tests benchmarks docs staticfiles,--ignore $(folder))
	@msgattrib --no-wrap --sort-output --output-file $(CATALOGUE) $(CATALOGUE)
	@sed -i '/^"\(POT-Creation\|PO-Revision\)-Date:/d' $(CATALOGUE)
	@msgfmt --check-format --statistics --output-file $(CATALOGUE:.po=.mo) $(CATALOGUE)

lock: $(INSTALLED)
	@$(BIN)/pip install --quiet pip-tools
	@$(COMPILE) --all-extras --output-file requirements.lock pyproject.toml
	@$(COMPILE) --constraint requirements.lock --output-file requirements-production.lock pyproject.toml
COMPILE = $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

# Written aside: a half .env, say on a full disk, would count as made.
.env: | $(INSTALLED)
	@cp .env.example $(VENV)/.env.part && mv $(VENV)/.env.part $@

# pip takes a package that a killed pip has half installed for whole: an unfinished environment is made anew.
$(INSTALLED): requirements.lock
	@command -v $(PYTHON) >/dev/null \
		|| { echo "keyhub: there is no $(PYTHON). Install Python 3.11 or newer, or name it: make PYTHON=/its/path" >&2; exit 1; }
	@$(PYTHON) -c "$$SURROUNDINGS"
	@echo "Installing the locked packages into $(VENV) …"
	@test ! -e $@.part || rm -rf $(VENV)
	@mkdir -p $(VENV) && touch $@.part
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "keyhub: Python could not make an environment in $(VENV), for the reason above." >&2; exit 1; }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock \
		|| { echo "keyhub: the packages of requirements.lock could not be installed into $(VENV), for the reason above." >&2; exit 1; }
	@mv $@.part $@

# For any Python, however old.
define SURROUNDINGS
import os, sys
if sys.version_info < (3, 11):
    sys.exit("keyhub: Python 3.11 or newer is needed, and $(PYTHON) is older. Name a newer one: make PYTHON=python3.11")
import importlib.util, shutil
if not importlib.util.find_spec("ensurepip"):
    sys.exit("keyhub: $(PYTHON) cannot make environments. Install its venv module: on Debian and Ubuntu, python3-venv.")
if not os.access(".", os.W_OK):
    sys.exit("keyhub: this folder cannot be written to. Make it writable, or clone KeyHub elsewhere.")
if shutil.disk_usage(".").free < 1e9:
    sys.exit("keyhub: less than 1 GB is free here. Make room, or clone KeyHub elsewhere.")
endef
export SURROUNDINGS
