# A virtual environment with mixtools in it, shared by examples/ and tests/.
# PYTHON names an interpreter, 3.11 or newer; EXTRAS what to install besides, apart by commas.

COMMA := ,
ROOT := $(dir $(lastword $(MAKEFILE_LIST)))
PYTHON ?= python3
VENV ?= $(ROOT).venv
BIN := $(VENV)/bin

INSTALLED := $(VENV)/.installed-$(subst $(COMMA),-,$(or $(EXTRAS),plain))

$(INSTALLED): $(ROOT)pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mixtools needs Python 3.11 or newer; give make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -e '$(ROOT)$(if $(EXTRAS),[$(EXTRAS)])'
	touch $@
