#!/bin/sh
# Run every fuzz target on its seeds under valgrind's memcheck.
#
# usage: tools/valgrind.sh     environment: PYTHON
set -eu
cd "$(dirname "$0")/.."
build=build/valgrind
mkdir -p "$build"
"${PYTHON:-python3}" tools/fuzz_seeds.py "$build/seeds"
for source in csrc/fuzz/*.c; do
    target=$(basename "$source" .c)
    gcc -std=c11 -O1 -g "$source" csrc/replay/main.c csrc/*.c -o "$build/$target"
    find "$build/seeds/$target" "csrc/fuzz/corpus/$target" -type f >"$build/inputs" 2>/dev/null || :
    xargs -d '\n' -n 100000 valgrind --quiet --error-exitcode=9 --leak-check=full \
        "$build/$target" <"$build/inputs" >"$build/log" 2>&1 || { cat "$build/log"; exit 1; }
    echo "$target: $(cat "$build/log"), no finding"
done
