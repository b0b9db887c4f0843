# Verbs of the project: `make help` lists them. CI calls the same ones a person does.
.DEFAULT_GOAL := help
SHELL := /bin/sh

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# What the wheel is made from. Folders are in it so that a removed file counts as a change.
SOURCES := $(shell find otel_oom -name __pycache__ -prune -o -name objects -prune -o -print)
PROBES := $(wildcard bpf/*.bpf.c)
OBJECTS := $(PROBES:bpf/%.bpf.c=otel_oom/bpf/objects/%.bpf.o)
C_FILES := $(wildcard bpf/*.[ch] bpf/*/*.[ch] tests/doubles/*.c)

PACKAGES := clang llvm clang-format libbpf1 libbpf-dev libc6-dev python3-venv
CHAOS := $(wildcard tests/integration/test_file_storage*.py) tests/integration/test_reload.py tests/e2e/test_k8s_churn.py
TEST_PACKAGES := e2fsprogs xfsprogs btrfs-progs fio containerd runc busybox-static
IMAGE_PACKAGES := buildah runc mmdebstrap
KERNEL_PACKAGES := qemu-system-x86 qemu-system-arm gcc-aarch64-linux-gnu libc6-dev-arm64-cross mmdebstrap e2fsprogs

# Every object of bpf/ is made by the one Makefile there.
.NOTPARALLEL:
.PHONY: help deps venv bpf run demo test lint kernels chaos bench image docs fmt clean

help: ## list the verbs
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r verb text; do printf '%-16s%s\n' "$$verb" "$$text"; done

deps: ## install the Debian packages that are missing (as root; else say how)
	@tools/deps.sh $(PACKAGES)

venv: $(VENV)/.wheel ## build the wheel and install it into .venv with its dependencies and the development tools

bpf: deps ## compile the BPF programs, the same for every processor
	@$(MAKE) --no-print-directory -C bpf

run: venv ## capture OOM kills: print each, append it to oom.jsonl (ARGS="--config FILE")
	$(BIN)/otel-oom run $(ARGS)

demo: venv ## run the agent, make a real OOM kill whose victim is not the trigger, show the record
	$(BIN)/python -P tools/demo.py $(ARGS)

test: venv ## run the tests against the installed wheel (ARGS="-k name")
	@tools/deps.sh $(TEST_PACKAGES)
	$(BIN)/python -P -m pytest --installed $(ARGS)

lint: venv ## ruff, mypy, the layers of imports, clang-format, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	clang-format --dry-run -Werror $(C_FILES)
	@for tool in tools/make_events.py tools/make_docs.py; do \
		test ! -f $$tool || { echo "$$tool --check"; $(BIN)/python $$tool --check || exit 1; }; \
	done

kernels: venv ## boot Debian's kernels 5.10 to 7.x in QEMU and run tests/kernels inside
	@tools/deps.sh $(KERNEL_PACKAGES)
	$(BIN)/python -P -m pytest --installed --kernels tests/kernels $(ARGS)

chaos: venv ## the long forms: 500 SIGKILLs, each byte of a queue damaged, 1,000 kills in pods (ARGS="-k name")
	@tools/deps.sh $(TEST_PACKAGES)
	$(BIN)/python -P -m pytest --installed --chaos --kills 1000 $(CHAOS) $(ARGS)

bench: venv ## run the benchmarks, as ratios within one run
	@for bench in tests/benchmarks/bench_*.py; do \
		echo "== $$bench"; $(BIN)/python -P $$bench $(ARGS) || exit 1; \
	done

image: ## build the container image with buildah, on a base made from Debian packages
	@tools/deps.sh $(IMAGE_PACKAGES)
	tools/image/build.sh

docs: venv ## write the generated parts of docs/
	$(BIN)/python tools/make_docs.py

fmt: venv ## format Python and C in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	clang-format -i $(C_FILES)

clean: ## remove what was built; caches outside the tree stay
	rm -rf $(VENV) build otel_oom/bpf/objects/*.bpf.o .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# `deps` is asked first, once a run, and asks for nothing when nothing is missing.
$(VENV)/.dev: pyproject.toml | deps
	tools/make_venv.sh $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

$(VENV)/.wheel: $(VENV)/.dev $(SOURCES) $(OBJECTS) README.md LICENSE bpf/LICENSE
	rm -rf build/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(BIN)/python -m pip install --quiet build/wheel/*.whl
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps build/wheel/*.whl
	@touch $@

otel_oom/bpf/objects/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h bpf/*/*.h) | deps
	@$(MAKE) --no-print-directory -C bpf
