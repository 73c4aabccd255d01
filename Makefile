# Commands for people. `make` lists them.

SHELL := bash
PYTHON ?= python3
VENV ?= .venv
BACKEND ?= jax
BACKENDS ?= jax tensorflow torch
ARGS ?=

# Where this is set, every process compiles the frameworks' sources again.
export PYTHONDONTWRITEBYTECODE :=

BIN := $(VENV)/bin
STAMPS := $(VENV)/.installed

# On the processors that have it, TensorFlow without GPU code is half the download.
extra_of_jax := jax
extra_of_tensorflow := tensorflow-cpu
extra_of_torch := torch

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help quickstart env test fuzz drill bench lint format docs clean check-backends

help: ## Show this list
	@echo "usage: make COMMAND [NAME=value ...]"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  BACKEND=jax|tensorflow|torch      the quickstart's backend         ($(BACKEND))"
	@echo "  BACKENDS=\"jax torch\"              the backends to test             ($(BACKENDS))"
	@echo "  CASES=1000                        of the fuzz                      ($(CASES))"
	@echo "  ARGS=\"...\"                        passed on to the quickstart, or to pytest"
	@echo "  PYTHON=python3.12                 the Python that makes $(VENV)     ($(PYTHON))"

quickstart: check-backends $(STAMPS)/venv ## Train four methods on long-tailed digits, with BACKEND
	$(call install,$(extra_of_$(BACKEND)) examples)
	KERAS_BACKEND=$(BACKEND) TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/python examples/quickstart.py $(ARGS)

env: $(STAMPS)/venv ## Make .venv with all three backends and everything the work needs
	$(call install,jax tensorflow-cpu torch examples dev)
	@echo "$(VENV) is ready: source $(BIN)/activate"

test: check-backends $(STAMPS)/venv ## Run the whole suite on every backend of BACKENDS
	$(call install,$(foreach backend,$(BACKENDS),$(extra_of_$(backend))) examples dev)
	@$(BIN)/python tests/run.py $(BACKENDS) -- $(ARGS)

CASES ?= 10000

fuzz: check-backends $(STAMPS)/venv ## Call every loss at random on BACKENDS, CASES times, and compare
	$(call install,$(foreach backend,$(BACKENDS),$(extra_of_$(backend))) examples dev)
	status=0; for backend in $(BACKENDS); do echo $$backend; \
		KERAS_BACKEND=$$backend TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m tests.fuzz \
		--cases $(CASES) --out build/fuzz/$$backend.json $(ARGS) || status=1; done; exit $$status
	$(BIN)/python -m tests.fuzz --compare $(foreach backend,$(BACKENDS),build/fuzz/$(backend).json)

drill: check-backends $(STAMPS)/venv ## Kill trainings, resume them and compare, on BACKENDS
	$(call install,$(foreach backend,$(BACKENDS),$(extra_of_$(backend))) examples dev)
	@$(BIN)/python -m tests.drill $(BACKENDS)

bench: check-backends $(STAMPS)/venv ## Time the losses against PyTorch loops, on BACKENDS
	$(call install,$(foreach backend,$(BACKENDS),$(extra_of_$(backend))) torch examples)
	$(BIN)/python benchmarks/run.py --backends $(BACKENDS) $(ARGS)

lint: $(STAMPS)/venv ## Check style, formatting and annotations
	$(call install,dev)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMPS)/venv ## Repair what `lint` finds, as far as ruff can
	$(call install,dev)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMPS)/venv ## Build the site in site/; a broken link is an error
	$(call install,docs)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open site/index.html: it needs no server and no network"

clean: ## Remove .venv, caches and builds; results/ stays
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

check-backends:
	@for backend in $(BACKEND) $(BACKENDS); do \
		case " jax tensorflow torch " in \
			*" $$backend "*) ;; \
			*) echo "There is no backend '$$backend': it is jax, tensorflow or torch." >&2; exit 2;; \
		esac; \
	done

# --- How .venv comes about -------------------------------------------------------------------
#
# One stamp for each extra, so that commands may come in any order and a second run installs
# nothing. A newer pyproject.toml or constraints.txt makes every stamp stale.

# A .venv that is already there is used as it is.
$(STAMPS)/venv:
	@python="$(PYTHON)"; [ ! -x $(BIN)/python ] || python=$(BIN)/python; \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "keras-lpl needs Python 3.11 or newer, which '$$python' is not." >&2; \
		echo "Name another one: make clean; make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
		exit 2; }
	@[ -x $(BIN)/python ] || { \
		echo "Creating $(VENV) with $$($(PYTHON) --version)"; \
		$(PYTHON) -m venv $(VENV) || { \
			rm -rf $(VENV); \
			echo "'$(PYTHON) -m venv' failed. On Debian and Ubuntu it is a package of its" >&2; \
			echo "own, python3-venv; install that, and try again." >&2; \
			exit 2; }; }
	@mkdir -p $(STAMPS)
	@touch $@

# $(call install,EXTRAS): one pip call for those whose stamp is missing or stale. Shows the large
# downloads, and everything pip has to say if it fails. Python compiles modules when they are first
# imported, which is much faster than pip compiling all of them.
define install
@missing=; \
for extra in $(1); do \
	stamp=$(STAMPS)/$$extra; \
	if [ ! -e $$stamp ] || [ pyproject.toml -nt $$stamp ] || [ constraints.txt -nt $$stamp ]; \
	then missing="$$missing $$extra"; fi; \
done; \
[ -n "$$missing" ] || exit 0; \
extras=$$(echo $$missing | tr ' ' ','); \
echo "Installing keras-lpl[$$extras] into $(VENV), which takes minutes the first time"; \
start=$$(date +%s); set -o pipefail; \
PYTHONUNBUFFERED=1 $(BIN)/python -m pip install --disable-pip-version-check --no-compile \
	--progress-bar off --constraint constraints.txt --editable ".[$$extras]" \
	2>$(VENV)/install.log | sed -n -E \
	-e 's/^ *(Downloading|Using cached) ([^ ]+) (\([0-9]{2,}[0-9.]* [MG]B\)).*/  \2 \3/p' \
	-e 's/^Installing collected.*/  unpacking/p' \
	|| { cat $(VENV)/install.log >&2; exit 1; }; \
for extra in $$missing; do touch $(STAMPS)/$$extra; done; \
echo "Installed in $$(( $$(date +%s) - start )) s"
endef
