#!/bin/sh
# Coverage of csrc by the tests of the codec: lines, branches and MC/DC. Fails below 100 % of lines
# or branches; MC/DC is reported.
#
# usage: tools/c-coverage.sh     environment: CLANG, PYTHON; LLVM, the suffix of llvm's tools
set -eu
cd "$(dirname "$0")/.."
clang=${CLANG:-clang-19} llvm=${LLVM--19} python=${PYTHON:-python3}
flags="-fprofile-instr-generate -fcoverage-mapping -fcoverage-mcdc"
CC=$clang LDSHARED="$clang -shared" CFLAGS=$flags LDFLAGS=-fprofile-instr-generate \
    tools/native-copy.sh coverage
cd build/coverage
LLVM_PROFILE_FILE=$PWD/%p.profraw PYSCEP_BACKEND=native PYSCEP_TWIN_MUTANTS=20000 \
    "$python" -m pytest --quiet -p no:cacheprovider \
    tests/test_twins.py tests/test_codec_query.py tests/test_codec_index.py
"llvm-profdata$llvm" merge -o merged.profdata ./*.profraw
report() {
    "llvm-cov$llvm" "$1" pyscep/codec/_kernels.abi3.so -instr-profile=merged.profdata "$2" "$3" csrc
}
report report --show-branch-summary --show-mcdc-summary
report export -format=lcov --skip-expansions >csrc.lcov
# A kernel that this machine can't run is left out, and named.
kernels=$(PYTHONPATH=. "$python" -c 'from tests import twins; print(*twins.kernels())')
echo "csrc: kernels $kernels"
awk -F: -v kernels=" $kernels " '
    /^SF:/ { name = $2; sub(/.*query_?/, "", name); sub(/\.c$/, "", name)
             skip = $2 ~ /query_/ && index(kernels, " " name " ") == 0 }
    skip { next }
    /^(LF|BRF):/ { all += $2 } /^(LH|BRH):/ { hit += $2 }
    END { print "csrc: " hit " of " all " lines and branches"; exit hit != all }' csrc.lcov
