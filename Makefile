# All the set-up there is: a virtual environment in .venv, with the package at the versions of constraints.txt.
#   make lab     start the course; options go in ARGS, for example: make lab ARGS="--lang es"
#   make test    prove everything
PYTHON ?= python3.11
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)
# On Linux the default torch brings several GB of CUDA. PyTorch's own index has the CPU build: used where it answers.
CPU_INDEX := https://download.pytorch.org/whl/cpu
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt \
	$$($(BIN)/python -c "import urllib.request as u; u.urlopen('$(CPU_INDEX)/torch/', timeout=5)" 2>/dev/null \
	&& echo --extra-index-url $(CPU_INDEX))

.PHONY: lab test clean

lab: .venv/lab
	@$(BIN)/edgelab lab $(ARGS)

test: .venv/test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/edgelab build --check
	@$(BIN)/python -m pytest $(ARGS)

.venv/bin-ready:
	@$(PYTHON) --version >/dev/null 2>&1 || { echo "edgelab needs Python 3.11 or newer as '$(PYTHON)'; name another with: make PYTHON=python3 lab"; exit 1; }
	@$(PYTHON) -m venv .venv && touch $@

.venv/lab: .venv/bin-ready pyproject.toml constraints.txt
	@echo "Installing edgelab and what its labs need into .venv (a few minutes, once) ..."
	@$(PIP_INSTALL) -e . && touch $@

.venv/test: .venv/lab
	@echo "Installing the test tools into .venv ..."
	@$(PIP_INSTALL) -e ".[test]" && touch $@

clean:
	rm -rf .venv build dist test-artefacts
