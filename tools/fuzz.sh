#!/bin/sh
# Build the fuzz targets of csrc/fuzz with AddressSanitizer and UndefinedBehaviorSanitizer, and run
# all of them, SECONDS of processor time in total for each processor.
#
# usage: tools/fuzz.sh [SECONDS]     environment: CLANG, PYTHON
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
clang=${CLANG:-clang-19}
build=build/fuzz
mkdir -p "$build"
"${PYTHON:-python3}" tools/fuzz_seeds.py "$build/seeds"

for source in csrc/fuzz/*.c; do
    target=$(basename "$source" .c)
    "$clang" -std=c11 -Wall -Wextra -Wconversion -Werror -O2 -g -fno-omit-frame-pointer \
        -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
        "$source" csrc/*.c -o "$build/$target" &
done
wait
set -- csrc/fuzz/*.c
jobs=$(nproc 2>/dev/null || echo 1)
each=$((seconds * jobs / $#))
[ "$each" -gt 0 ] || each=1

# What a run finds stays in build/fuzz/found; csrc/fuzz/corpus holds what is worth keeping.
run='
    target=$0 build=$1 each=$2
    mkdir -p "$build/found/$target" "csrc/fuzz/corpus/$target"
    export ASAN_OPTIONS=quarantine_size_mb=4
    "$build/$target" -max_total_time="$each" -timeout=1 -rss_limit_mb=512 -max_len=8192 \
        -artifact_prefix="$build/$target-" -print_final_stats=1 -verbosity=0 \
        "$build/found/$target" "csrc/fuzz/corpus/$target" "$build/seeds/$target" \
        >"$build/$target.log" 2>&1 || { cat "$build/$target.log"; exit 255; }
'
for source; do basename "$source" .c; done |
    xargs -P "$jobs" -I TARGET sh -c "$run" TARGET "$build" "$each"
for source; do
    target=$(basename "$source" .c)
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$target.log")
    echo "$target: $executions executions in $each s, no finding"
done
