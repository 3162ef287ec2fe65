# Targets set themselves up: `make up` and `make test` need only Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TORCH := $(shell sed -n 's/^\(torch==.*\)/\1/p' constraints.txt)
MINKOWSKI := $(shell sed -n 's/^minkowski = \["\(.*\)"\]/\1/p' pyproject.toml)
# One wheel for each torch: it is linked against it.
MINKOWSKI_WHEELS = var/wheels/$(TORCH)
CPU_WHEELS := https://download.pytorch.org/whl/cpu
# Before 0.1.0 a change that breaks the API is reported, from then on it fails.
BREAKING_ALLOWED := $(if $(filter 0.0.%,$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)),true,false)
BASE_TAG := $(shell git describe --tags --abbrev=0 --match 'v*' 2>/dev/null)

# Rendering on the CPU; moderngl looks for libGL and libEGL at run time.
SYSTEM_PACKAGES := libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri

.PHONY: help backbones up demo test test-slow test-gpu bench lint format stubs docs minkowski lock clean

help: ## Show the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

define install_torch
	@if [ -z "$(GPU)" ] && $(1)/python -c "import urllib.request as u; u.urlopen('$(CPU_WHEELS)/torch/', timeout=2)" 2>/dev/null; \
	then $(1)/pip install -q --index-url $(CPU_WHEELS) $(TORCH); \
	else $(1)/pip install -q $(TORCH); fi
endef

# PyTorch comes first: resolved together with the rest, its default build would bring CUDA along.
# GPU=1 takes that default build on purpose.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(call install_torch,$(BIN))
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	$(BIN)/python -m encoders_3d.sparse build
	@dpkg -s $(SYSTEM_PACKAGES) >/dev/null 2>&1 \
	|| { [ "$$(id -u)" = 0 ] && apt-get -q update && apt-get install -q -y $(SYSTEM_PACKAGES); } \
	|| echo "rendering needs packages that make could not install: $(SYSTEM_PACKAGES)"
	touch $@

backbones: $(READY) ## Fetch the frozen networks that can be fetched.
	$(BIN)/python -m deploy backbones fetch

up: backbones ## Start every service and stay until Ctrl-C.
	$(BIN)/python -m deploy up

demo: backbones ## Start every service on free ports, run the demo's calls, stop.
	$(BIN)/python -m deploy demo

test: backbones ## Fast tests.
	$(BIN)/python -m pytest -m "not slow and not gpu"

test-slow: backbones ## Slow tests: soak, fault rounds.
	$(BIN)/python -m pytest -m slow --timeout 1800

test-gpu: backbones ## Tests that need a CUDA device.
	$(BIN)/python -m pytest -m gpu

# Other servers need other versions of packages that we use, so each has an environment of its own;
# what computes is the same version everywhere.
PEERS := pytriton mosec
PEER_pytriton := nvidia-pytriton==0.7.0 'numpy<2'
PEER_mosec := mosec==0.9.8 numpy
COMPUTES := $(shell sed -n '/^\(transformers\|tokenizers\|safetensors\)==/p' constraints.txt)

var/venvs/%/.ready: constraints.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(call install_torch,$(@D)/bin)
	$(@D)/bin/pip install -q $(PEER_$*) $(COMPUTES)
	touch $@

bench: backbones $(PEERS:%=var/venvs/%/.ready) ## Measure serving and encoders beside others, write docs/benchmarks.
	$(BIN)/pip install -q -c constraints.txt -e '.[dev,bench]'
	$(BIN)/python -m deploy bench serving
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m deploy bench sparse
	$(BIN)/python -m deploy bench points

lint: $(READY) ## Style, types, layers, protos, stubs.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint protos
	$(BIN)/python protos/generate.py --check
	$(BIN)/python -m deploy.reference --check
	@if [ -z "$(BASE_TAG)" ]; then echo "buf breaking: no release tag yet, nothing to compare with"; \
	else $(BIN)/buf breaking protos --against '.git#tag=$(BASE_TAG),subdir=protos' || $(BREAKING_ALLOWED); fi

format: $(READY) ## Format the code.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

stubs: $(READY) ## Generate xscene/v1 from the protos.
	$(BIN)/python protos/generate.py

docs: $(READY) ## Generate the tables of docs/ from the code.
	$(BIN)/python -m deploy.reference

# Its set-up finds BLAS by numpy.distutils, and removes an installed copy of itself even in a dry run: the
# wheel is built apart, once. At run time it needs libopenblas0, and OPENBLAS_NUM_THREADS=1: OpenBLAS
# threads and its own OpenMP threads take each other's cores.
minkowski: $(READY) ## Build MinkowskiEngine for the CPU and install it beside the rest.
	@$(CXX) -lopenblas -shared -o /dev/null -x c++ /dev/null 2>/dev/null || \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get install -qq -y libopenblas-dev; } || \
	{ echo "MinkowskiEngine needs a C++ compiler and libopenblas-dev: apt-get install g++ libopenblas-dev"; exit 1; }
	@if ! ls $(MINKOWSKI_WHEELS)/*.whl >/dev/null 2>&1; then \
	$(BIN)/pip install -q -c constraints.txt setuptools wheel ninja && \
	PATH="$(CURDIR)/$(BIN):$$PATH" CFLAGS=-g0 MAX_JOBS=2 $(BIN)/pip wheel -q -w $(MINKOWSKI_WHEELS) --no-deps \
	--no-build-isolation --no-cache-dir --use-pep517 --no-binary MinkowskiEngine $(MINKOWSKI) \
	--config-settings=--global-option=--blas=openblas --config-settings=--global-option=--cpu_only; fi
	$(BIN)/pip install -q --no-deps --no-index $(MINKOWSKI_WHEELS)/*.whl
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m encoders_3d.sparse show

lock: ## Write constraints.txt anew from the newest versions that resolve.
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install -q $(TORCH)
	$(VENV)-lock/bin/pip install -q '.[dev,text,image,points,fusion,trainer,gateway,vectorstore,rooms,bench]'
	$(VENV)-lock/bin/pip check
	( echo "# Exact versions that resolve together; make lock writes them anew."; \
	  $(VENV)-lock/bin/pip freeze --exclude xscene | sed 's/^\(torch==[0-9.]*\).*/\1/' ) > constraints.txt
	rm -rf $(VENV)-lock

clean: ## Remove what the targets made.
	rm -rf $(VENV) var build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
