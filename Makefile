# `make demo` and `make test` need nothing but make and Python 3.11: they build .venv themselves.
#
#   PYTHON=/path/to/python3   the interpreter of a new .venv
#   ARGS="-k renewal -x"      passed to pytest by test, check and bench, to the benchmark by goals and served
#   PYSCEP_REQUIRE_PEERS=1    a missing interoperability peer fails the tests
#   PYSCEP_EXTENSION=require  a codec that does not compile fails the installation
#   PYSCEP_BACKEND=pure       the codec in Python, as where it was not compiled

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
PY := $(VENV)/bin/python
LOCK := requirements-dev.txt
PIP := $(PY) -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install --constraint $(LOCK)
SOURCES := pyproject.toml setup.py $(LOCK) $(wildcard csrc/*.[ch] csrc/*.py)
EXTRAS_RUN := ca,cli,serve,httpx
EXTRAS_DEV := $(EXTRAS_RUN),intune,postgresql,test,check,bench

# An environment that was moved with its checkout, or whose Python is gone, is made anew.
ifneq ($(wildcard $(VENV)/base.stamp),)
ifneq ($(shell $(PY) -c 'print(open("$(VENV)/base.stamp").read().strip())' 2>&1),$(CURDIR))
$(shell rm -rf $(VENV))
endif
endif

.PHONY: help
help: ## show this list
	@echo "make <target>:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-13s %s\n", $$1, $$2 }'

.PHONY: demo
demo: $(VENV)/run.stamp ## enroll, renew and verify against an embedded CA, and watch it
	@$(PY) tools/demo.py

.PHONY: demo-intune
demo-intune: $(VENV)/intune.stamp ## in place of NDES, with Intune: a fake of it, nginx (needed), devices
	@$(PY) tools/demo_intune.py

.PHONY: test
test: $(VENV)/dev.stamp ## run every test; peers that are not installed are named
	$(PY) -m pytest $(ARGS)

.PHONY: check
check: $(VENV)/dev.stamp ## ruff, mypy --strict, every test on the Python codec, branch coverage
	$(PY) -m ruff check .
	$(PY) -m mypy
	PYSCEP_BACKEND=pure $(PY) -m pytest --cov --cov-report= $(ARGS)
	if $(PY) -c 'import pyscep.codec._kernels'; then PYSCEP_BACKEND=native $(PY) -m pytest --quiet \
		--cov --cov-append --cov-report= tests/test_codec_query.py tests/test_codec_index.py \
		tests/test_der.py tests/test_crl.py tests/test_getcrl.py tests/test_signed_data.py; fi
	$(PY) -m coverage report

.PHONY: bench
bench: $(VENV)/dev.stamp ## measure speed beside other packages; ARGS="-k decode" picks some
	$(PY) -m pytest benchmarks --benchmark-enable --benchmark-only --benchmark-group-by=func $(ARGS)

.PHONY: goals
goals: $(VENV)/dev.stamp ## measure the performance goals, write benchmarks/RESULTS.md, fail on a miss
	$(PY) -m benchmarks.goals $(ARGS)

.PHONY: served
served: $(VENV)/dev.stamp ## measure `pyscep serve` beside scepserver, write benchmarks/SERVED.md, fail on a miss
	$(PY) -m benchmarks.served $(ARGS)

# The C kernels. Instrumented builds live in copies under build/, never beside the package.
CLANG := clang-19
SECONDS := 60
COUNT := 10000000
SEED := 2026
MUTANTS := 20
CORPORA := build/corpora
PRELOAD = LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)"
NATIVE_TESTS := tests/test_twins.py tests/test_codec_query.py tests/test_codec_index.py \
	tests/test_der.py tests/test_crl.py tests/test_corpus.py tests/test_signed_data.py \
	tests/test_enveloped_data.py tests/test_pkcs10.py tests/test_pki_message.py

.PHONY: csrc-check
csrc-check: ## compile the C code with every warning an error, by gcc, clang and cppcheck
	CLANG=$(CLANG) tools/csrc-check.sh

.PHONY: fuzz
fuzz: ## fuzz the C code with ASan and UBSan: all targets, SECONDS=60 in total
	CLANG=$(CLANG) tools/fuzz.sh $(SECONDS)

.PHONY: sanitize
sanitize: $(VENV)/dev.stamp ## tests of the codec and of messages, with ASan and UBSan in the C code
	PYTHON=$(abspath $(PY)) PYSCEP_SANITIZE=1 tools/native-copy.sh sanitized
	cd build/sanitized && $(PRELOAD) ASAN_OPTIONS=detect_leaks=0 \
		UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONMALLOC=malloc \
		PYSCEP_BACKEND=native PYSCEP_TWIN_MUTANTS=20000 \
		$(abspath $(PY)) -m pytest --quiet -p no:cacheprovider $(NATIVE_TESTS)
	PYTHON=$(abspath $(PY)) CFLAGS=-DPYSCEP_PORTABLE tools/native-copy.sh portable
	cd build/portable && PYSCEP_BACKEND=native PYSCEP_TWIN_MUTANTS=20000 \
		$(abspath $(PY)) -m pytest --quiet -p no:cacheprovider tests/test_twins.py

.PHONY: neon
neon: ## the NEON kernel against the scalar one on an emulated AArch64, MUTANTS=20 of each seed
	tools/neon.sh $(MUTANTS)

.PHONY: valgrind
valgrind: ## the inputs of the fuzz targets under valgrind's memcheck
	tools/valgrind.sh

.PHONY: c-coverage
c-coverage: $(VENV)/dev.stamp ## lines, branches and MC/DC of the C code under the codec's tests
	CLANG=$(CLANG) PYTHON=$(abspath $(PY)) tools/c-coverage.sh

.PHONY: twins
twins: $(VENV)/dev.stamp ## compare the C and Python codecs on COUNT=10000000 mutants
	$(PY) -m tests.twins $(COUNT) $(SEED)

.PHONY: twins-corpora
twins-corpora: $(VENV)/dev.stamp ## the same on test data that PyPI and Debian carry, or CORPORA="..."
	$(if $(filter build/corpora,$(CORPORA)),PYTHON=$(abspath $(PY)) tools/corpora.sh $(CORPORA))
	$(PY) -m tests.twins --files $(CORPORA)

.PHONY: pythons
pythons: $(VENV)/dev.stamp ## install one wheel under the other Pythons of this machine, and test it there
	tools/pythons.sh $(abspath $(PY))

KILLS := 1000

.PHONY: crash
crash: $(VENV)/dev.stamp ## kill -9 a server KILLS times (1000), at every failpoint, and look for losses
	$(PY) -m tests.crash_lab --kills $(KILLS) $(ARGS)

.PHONY: venv
venv: $(VENV)/dev.stamp ## only make .venv, with all that development needs

.PHONY: lock
lock: ## renew the pins from the newest versions that pyproject.toml allows
	rm -rf build/lock
	$$(tools/find-python.sh) -m venv build/lock
	build/lock/bin/python -m pip --disable-pip-version-check --quiet install "setuptools>=77" cffi
	build/lock/bin/python -m pip --disable-pip-version-check --quiet install --no-build-isolation \
		--editable ".[$(EXTRAS_DEV)]"
	{ sed -n '/^#/p' $(LOCK); build/lock/bin/python -m pip freeze --all --exclude-editable \
		| grep -v -i '^pip=='; } > build/lock.txt
	mv build/lock.txt $(LOCK)
	rm -rf build/lock

.PHONY: clean
clean: ## remove .venv, builds, caches and reports
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.benchmarks .coverage .coverage.* htmlcov
	find pyscep tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps, so that nothing is installed twice. The build tools come first and at pinned versions,
# hence --no-build-isolation.
$(VENV)/base.stamp: $(SOURCES)
	@$(PY) -m pip --version >/dev/null 2>&1 || { python=$$(tools/find-python.sh) \
		&& echo "making $(VENV) with $$python" && rm -rf $(VENV) && "$$python" -m venv $(VENV); }
	@$(INSTALL) setuptools cffi
	@pwd -P > $@

$(VENV)/run.stamp: $(VENV)/base.stamp
	@echo "installing pyscep into $(VENV)"
	@$(INSTALL) --no-build-isolation --editable ".[$(EXTRAS_RUN)]"
	@touch $@

$(VENV)/intune.stamp: $(VENV)/base.stamp
	@echo "installing pyscep with the extra intune into $(VENV)"
	@$(INSTALL) --no-build-isolation --editable ".[$(EXTRAS_RUN),intune]"
	@touch $@ $(VENV)/run.stamp

$(VENV)/dev.stamp: $(VENV)/base.stamp
	@echo "installing pyscep and its development tools into $(VENV)"
	@$(INSTALL) --no-build-isolation --editable ".[$(EXTRAS_DEV)]"
	@touch $@ $(VENV)/run.stamp $(VENV)/intune.stamp
