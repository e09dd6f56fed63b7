# All the set-up there is: a virtual environment in .venv, with the package at the versions of constraints.txt.
#   make lab     start the course; options go in ARGS, for example: make lab ARGS="--lang es"
#   make test    prove everything
#   make site    build the course as pages to read, in build/site; make site-check tries its links to the outside
# They take the newest Python that is here and can make a virtual environment. PYTHON=... names another.
PYTHONS := python3.14 python3.13 python3.12 python3.11 python3 python
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)
# On Linux the default torch brings several GB of CUDA. PyTorch's own index has the CPU build: used where it answers.
CPU_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: lab test site site-check clean

lab: .venv/lab
	@$(BIN)/edgelab lab $(ARGS)

# A worker for each core; what measures time runs afterwards, alone. With ARGS, pytest is given those and nothing else.
test: .venv/test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/edgelab build --check
ifdef ARGS
	@$(BIN)/python -m pytest $(ARGS)
else
	@$(BIN)/python -m pytest -n auto -m "not long and not alone"
	@$(BIN)/python -m pytest -m "alone and not long" tests
endif

site: .venv/site
	@$(BIN)/python -m edgelab.site $(ARGS)

site-check: .venv/site
	@$(BIN)/python -m edgelab.site --builder linkcheck $(ARGS)

# A Python counts if it answers: a shim may be on the PATH without one behind it, and Debian's may lack ensurepip.
.venv/bin-ready:
	@for python in $(if $(PYTHON),"$(PYTHON)",$(PYTHONS)); do \
		version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
		case $$version in 3.11 | 3.12 | 3.13 | 3.14) ;; *) found="$${found:+$$found, }$$python is $$version"; continue ;; esac; \
		"$$python" -c "import ensurepip" 2>/dev/null || { lacking=$${lacking:-$$version}; continue; }; \
		"$$python" -m venv .venv && touch $@ && exit; \
		rm -rf .venv; exit 1; \
	done; \
	if test "$$lacking"; then echo "Python $$lacking is here, but not what makes a virtual environment;" \
		"on Debian and Ubuntu: sudo apt-get install python$$lacking-venv"; \
	else echo "edgelab needs Python 3.11 to 3.14 and finds none$${found:+ ($$found)};" \
		"name one with: make PYTHON=/path/to/python lab"; fi >&2; exit 1

# What pip says goes into a log, and onto the screen if it fails. Else a learner sees the downloads that take time.
define install
	@rm -f $@; { $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt $(1) \
		$$($(BIN)/python -c "import urllib.request as u; u.urlopen('$(CPU_INDEX)/torch/', timeout=5)" 2>/dev/null \
		&& echo --extra-index-url $(CPU_INDEX)) && touch $@; } 2>&1 | tee .venv/pip.log | \
	while read -r word what size; do case "$$word $$what $$size" in \
		"Downloading "*" "[MG]"B)") what=$${what##*/}; echo "  $${what%%-*} $$size" ;; \
		"Collecting nvidia-"* | "Collecting cuda-"*) test "$$cuda" || echo "  CUDA comes with this torch:" \
			"5.4 GB instead of 1.7 GB in all. README.md says how to avoid it."; cuda=1 ;; \
		"Installing collected "*) echo "  unpacking, which takes about as long again ..." ;; \
	esac; done; \
	test -f $@ || { cat .venv/pip.log; exit 1; } >&2
endef

.venv/lab: .venv/bin-ready pyproject.toml constraints.txt
	@echo "Installing edgelab and what its labs need into .venv, once, in a few minutes:"
	$(call install,-e ".[mcu]")

.venv/test: .venv/lab
	@echo "Installing the test tools into .venv:"
	$(call install,-e ".[test]")

.venv/site: .venv/lab
	@echo "Installing what makes the site into .venv:"
	$(call install,-e ".[site]")

clean:
	rm -rf .venv build dist test-artefacts
