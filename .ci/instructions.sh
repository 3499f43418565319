#!/usr/bin/env bash
# How many instructions the kernels take, counted by callgrind, against .ci/instructions/counts.json: unlike time, that is
# the same on every machine. `bash .ci/instructions.sh --renew` records what it finds.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/debian.sh

need c++ g++
need valgrind valgrind
python=${PYTHON:-.venv/bin/python}
library=$("$python" -c 'from ops.library import library_path; print(library_path())')
if ! "$python" -c 'import sys; from ops.library import available_instruction_sets; sys.exit("avx2" not in available_instruction_sets())'; then
    echo "SKIP: this processor has no AVX2, which the counts are of"
    exit 0
fi
work=$PWD/build/instructions
rm -rf "$work"
mkdir -p "$work/dumps"
c++ -std=c++17 -O1 -rdynamic .ci/instructions/driver.cpp -o "$work/driver" -ldl
DEEPTHIN_OPS_ISA=avx2 valgrind --quiet --tool=callgrind --instr-atstart=no --callgrind-out-file="$work/dumps/out" \
    "$work/driver" "$library"
# What the library was built with is what the compiler left in it.
compiler=$(readelf -p .comment "$library" | sed -n 's/.*\(GCC: .*\|clang version .*\)/\1/p' | sort -u | head -n 1)
"$python" .ci/instructions/check.py "$work/dumps" "${compiler:-unknown}" "$@"
