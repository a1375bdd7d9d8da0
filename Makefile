# What a person does with this project, one target each; `make` alone lists them.
VENV := .venv
PORT ?= $(or $(LOOKWHEN_PORT),8000)
PYTHON ?=
IMAGE ?= lookwhen
ACCELERATOR ?= cpu
ENGINE ?= docker
# podman's own format has no HEALTHCHECK
FORMAT := $(if $(findstring podman,$(ENGINE)),--format docker)

RUNTIME := $(VENV)/.runtime
DEVELOPMENT := $(VENV)/.development
TRAINING := $(VENV)/.training
SET_UP := deploy/bootstrap.py deploy/steps.py
SUPPLY := build/supply
OPENVINO := build/openvino
GPU_STUB := build/gpu-stub
PROJECT := benchmarks bundle export lookwhen model networks service startup training video deploy tests

# Finds a Python that is new enough, and makes or completes the environment with it.
find_python = python=$$(PYTHON='$(PYTHON)' sh deploy/find_python.sh)
bootstrap = $(find_python) && \
	"$$python" -m deploy.bootstrap $(VENV) --editable . --requirements

# Two at a time: many tests wait for another process, and few machines have fewer cores. A process
# that has nothing left takes tests from the other, so that no long file comes last alone.
run_tests = $(VENV)/bin/python -m pytest --numprocesses 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help run training check test test-long test-real test-gpu-stub lint types coverage pytest fuzz soak drain format lock openapi audit image check-image \
	check-prometheus openvino \
	train-default clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  PORT=8001 chooses the port of make run, BUNDLE=bundles/mine what it serves,'
	@echo '  PYTHON=python3.12 the Python of $(VENV).'

run: $(RUNTIME)  ## install what is missing, serve on port 8000, print a first request
	@$(VENV)/bin/python deploy/run.py --port $(PORT) $(if $(BUNDLE),--bundle $(BUNDLE))

training: $(TRAINING)  ## install what training, export and plots need as well
	@echo 'Now type:  . $(VENV)/bin/activate'
	@echo 'docs/tutorial.md goes on from there.'

check: lint types  ## lint, types and the unit tests
	$(run_tests) -m 'not slow and not long and not real' $(ARGS)

test: lint types  ## lint, types and what takes no more than seconds, from units to a service over HTTP
	$(run_tests) -m 'not long and not real' $(ARGS)

test-long: $(DEVELOPMENT)  ## what takes longer: services that are overloaded, hurt or stopped; trainings; installations
	$(run_tests) -m 'long and not real' $(ARGS)

test-real: $(DEVELOPMENT)  ## the tests with a browser, nginx, Prometheus, OpenVINO, where they are installed
	$(run_tests) -m real $(ARGS)

test-gpu-stub: $(DEVELOPMENT) $(GPU_STUB)  ## onnxruntime's build for CUDA on a CUDA without a device; needs gcc
	$(VENV)/bin/python -m pytest tests/service/engine/test_stub_cuda.py $(ARGS)

lint: $(DEVELOPMENT)  ## ruff: rules and formatting
	$(VENV)/bin/ruff check $(PROJECT)
	$(VENV)/bin/ruff format --check $(PROJECT)

types: $(DEVELOPMENT)  ## mypy, strict
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy -p deploy

coverage: $(DEVELOPMENT)  ## which lines `make test` reaches, child processes included; build/coverage has a page of each file
	$(run_tests) -m 'not long and not real' --cov --cov-report=term --cov-report=html:build/coverage $(ARGS)

pytest: $(DEVELOPMENT)  ## the tests alone; ARGS='-k name' is handed on
	$(run_tests) $(ARGS)

openapi: $(DEVELOPMENT)  ## write docs/openapi.json anew, after a change of the interface
	$(VENV)/bin/python -m deploy.openapi

fuzz: $(DEVELOPMENT)  ## post 3,000 damaged clips to a service; ARGS='--mutants 100000 --seed 1'
	$(VENV)/bin/python -m benchmarks.safety.fuzz $(ARGS)

soak: $(DEVELOPMENT)  ## 20 minutes of traffic, a fifth of it hostile; ARGS='--minutes 60'
	$(VENV)/bin/python -m benchmarks.safety.soak $(ARGS)

drain: $(DEVELOPMENT)  ## stop a loaded service 20 times and count what gets lost
	$(VENV)/bin/python -m benchmarks.safety.drain $(ARGS)

format: $(DEVELOPMENT)  ## let ruff fix what it can, and format
	$(VENV)/bin/ruff check --fix $(PROJECT)
	$(VENV)/bin/ruff format $(PROJECT)

lock: $(DEVELOPMENT)  ## resolve pyproject.toml into requirements/; ARGS=--upgrade for newer versions
	sh deploy/lock.sh $(VENV) $(ARGS)

audit: $(SUPPLY)  ## look the locked packages up among known advisories; needs a network
	@$(SUPPLY)/bin/python deploy/audit.py requirements/runtime-cpu.txt \
		requirements/runtime-cuda.txt requirements/development.txt

image:  ## build the container image; ACCELERATOR=cuda for NVIDIA GPUs
	$(ENGINE) build $(FORMAT) --build-arg ACCELERATOR=$(ACCELERATOR) --tag $(IMAGE):$(ACCELERATOR) .

check-image:  ## run the built image confined, and have it classify a clip of its own
	@$(find_python) && "$$python" deploy/check_image.py $(IMAGE):$(ACCELERATOR) --engine $(ENGINE)

check-prometheus: $(DEVELOPMENT)  ## a real Prometheus scrapes the service that runs on PORT
	@$(VENV)/bin/python deploy/check_prometheus.py --service http://127.0.0.1:$(PORT) \
		$(if $(KEY),--key $(KEY)); \
		status=$$?; [ $$status -eq 77 ] || exit $$status

openvino: $(OPENVINO)  ## lay an onnxruntime with OpenVINO aside, for the tests of it

# Each step goes on where it was interrupted. Clips of seed 1 are never trained on. What makes 4.2 of it,
# `lookwhen train calibrate`, needs real clips, which are not ours to give: docs/built-in-model.md.
train-default: $(DEVELOPMENT)  ## make the built-in bundle anew: render, train, evaluate, export; hours
	$(VENV)/bin/lookwhen train render runs/train --clips 40000 --seed 0
	$(VENV)/bin/lookwhen train render runs/held_out --clips 1800 --seed 1
	$(VENV)/bin/lookwhen train builtin runs/train runs/default
	$(VENV)/bin/lookwhen train builtin runs/train runs/near --recipe turning-near \
		--start runs/default/checkpoint.safetensors
	$(VENV)/bin/lookwhen train builtin runs/train runs/far --recipe turning-far \
		--start runs/near/checkpoint.safetensors
	$(VENV)/bin/lookwhen train builtin runs/train runs/turning --recipe turning-settled \
		--start runs/far/checkpoint.safetensors
	$(VENV)/bin/lookwhen train builtin runs/train runs/settled --recipe settled \
		--start runs/turning/checkpoint.safetensors
	$(VENV)/bin/lookwhen train builtin runs/train runs/together --recipe together \
		--start runs/settled/checkpoint.safetensors
	$(VENV)/bin/lookwhen train teachers image runs/image moving-things runs/train
	$(VENV)/bin/lookwhen train teachers video runs/video moving-things runs/train \
		--start runs/default/checkpoint.safetensors --steps 400 --dense-from 0.75 \
		--learning-rate 5e-4 --matrix-learning-rate 1e-3
	$(VENV)/bin/lookwhen train render runs/some --clips 5250 --seed 0
	$(VENV)/bin/lookwhen train teachers store local_image runs/image/teacher.safetensors \
		runs/image_store moving-things runs/some --part frames --part patches \
		--target top1_distance
	$(VENV)/bin/lookwhen train teachers store local_video runs/video/teacher.safetensors \
		runs/video_store moving-things runs/some --part video
	$(VENV)/bin/lookwhen train pretrain runs/pretrained moving-things runs/some \
		--recipe mini-continued --steps 400 --start runs/together/checkpoint.safetensors \
		--image-store runs/image_store --video-store runs/video_store
	$(VENV)/bin/lookwhen train builtin runs/train runs/tuned --recipe together \
		--seed 8 --steps 3000 --start runs/pretrained/checkpoint.safetensors
	$(VENV)/bin/lookwhen train evaluate runs/tuned/checkpoint.safetensors runs/held_out \
		runs/tuned/evaluation.json
	$(VENV)/bin/lookwhen export runs/tuned/checkpoint.safetensors bundle/default \
		--name moving_things --version 4.1 --default-sparsity 0.9 \
		--accuracy runs/tuned/evaluation.json

clean:  ## remove the environment, caches and build results; never runs/
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find $(PROJECT) -name __pycache__ -prune -exec rm -rf {} +

$(RUNTIME): pyproject.toml requirements/runtime-cpu.txt $(SET_UP)
	@$(bootstrap) requirements/runtime-cpu.txt
	@touch $@

$(TRAINING): pyproject.toml requirements/training-cpu.txt $(SET_UP)
	@$(bootstrap) requirements/training-cpu.txt
	@touch $@

$(SUPPLY): requirements/supply.txt
	@$(find_python) && "$$python" -m venv --clear $@ && \
		$@/bin/python -m pip install --quiet --require-hashes --requirement $<
	@touch $@

# In front of the environment's on the path of the processes that are to have it. What it needs,
# the environment holds.
$(OPENVINO) $(GPU_STUB): build/%: requirements/%.txt | $(DEVELOPMENT)
	@rm -rf $@
	@$(VENV)/bin/python -m pip install --quiet --no-deps --require-hashes --target $@ \
		--requirement $<
	@touch $@

$(DEVELOPMENT): pyproject.toml requirements/development.txt $(SET_UP)
	@$(bootstrap) requirements/development.txt
	@touch $@
