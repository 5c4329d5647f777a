#!/bin/sh
# The NEON kernel on an emulated AArch64: the fuzz targets, which compare it with the scalar one, on
# their seeds and on COUNT mutants of each.
#
# usage: tools/neon.sh [COUNT]     environment: PYTHON; AARCH64, the compiler; QEMU, the emulator
#
# Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user.
set -eu
cd "$(dirname "$0")/.."
count=${1:-20} compiler=${AARCH64:-aarch64-linux-gnu-gcc} qemu=${QEMU:-qemu-aarch64}
for tool in "$compiler" "$qemu"; do
    command -v "$tool" >/dev/null || { echo "neon: no $tool on this machine"; exit 1; }
done
build=build/neon
mkdir -p "$build"
export ASAN_OPTIONS=detect_leaks=0 # it wants ptrace, which the emulator has not
"${PYTHON:-python3}" tools/fuzz_seeds.py "$build/seeds"
for source in csrc/*.c; do
    "$compiler" -std=c11 -Wall -Wextra -Wconversion -Wshadow -Werror -O2 -c "$source" \
        -o "$build/object.o"
done
for source in csrc/fuzz/*.c; do
    target=$(basename "$source" .c)
    "$compiler" -std=c11 -O2 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined \
        -static-libasan -static-libubsan "$source" csrc/replay/main.c csrc/*.c -o "$build/$target"
    find "$build/seeds/$target" "csrc/fuzz/corpus/$target" -type f 2>/dev/null |
        xargs -d '\n' -n 100000 "$qemu" -L /usr/aarch64-linux-gnu \
            "$build/$target" "-$count" \
        >"$build/log" 2>&1 || { cat "$build/log"; exit 1; }
    echo "neon: $target: $(cat "$build/log"), no difference and no finding"
done
