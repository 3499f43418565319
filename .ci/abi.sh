#!/usr/bin/env bash
# The part of ONNX Runtime's C ABI that ops/csrc/ort_abi.h declares, against the real headers of Debian 13.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/debian.sh

need cmake cmake
need make make
need g++ g++
work=build/abi
rm -rf "$work"
fetch_trixie "$work/trixie" libonnxruntime-dev
headers=$PWD/$work/trixie/root/usr/include/onnxruntime
test -f "$headers/onnxruntime_c_api.h"
cmake -S . -B "$work/build" -DORT_INCLUDE_DIR="$headers" >"$work/cmake.log" || { cat "$work/cmake.log" >&2; exit 1; }
cmake --build "$work/build" --target deepthin_abi_check

# The check must be able to fail: a slot moved by one is found.
mkdir "$work/moved"
cp ops/csrc/abi_check.cpp "$work/moved"
sed 's/unused_250\[24\]/unused_250[25]/; s/SLOT(KernelContext_ParallelFor, 274)/SLOT(KernelContext_ParallelFor, 275)/' \
    ops/csrc/ort_abi.h >"$work/moved/ort_abi.h"
if g++ -std=c++17 -fsyntax-only -I"$headers" "$work/moved/abi_check.cpp" 2>"$work/moved.log"; then
    echo "FAIL: the check accepts a slot in the wrong place" >&2
    exit 1
fi
grep -q "OrtApi::KernelContext_ParallelFor is not slot 275" "$work/moved.log"
echo "abi: ort_abi.h agrees with the headers of ONNX Runtime $(grep -om1 'ORT_API_VERSION [0-9]*' "$headers/onnxruntime_c_api.h")"
