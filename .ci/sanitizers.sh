#!/usr/bin/env bash
# The compiled library built with the address and undefined-behaviour sanitizers, under the tests that run it.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/debian.sh

need cmake cmake
need make make
need g++ g++
python=${PYTHON:-.venv/bin/python}
if ! "$python" -c "import onnx, onnxruntime, hypothesis, pytest"; then
    echo "FAIL: $python lacks the packages of the extra 'dev'; make the virtual environment first" >&2
    exit 1
fi
work=build/sanitizers
mkdir -p "$work"
cmake -S . -B "$work" -DDEEPTHIN_SANITIZE=ON -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="-O1" >"$work/cmake.log" ||
    { cat "$work/cmake.log" >&2; exit 1; }
cmake --build "$work" --parallel 2

export DEEPTHIN_OPS_LIBRARY=$PWD/$work/libdeepthin_ops.so PYTHONPATH=$PWD
# The C++ runtime comes before the interpreter too, so that the sanitizer finds the exceptions it has to watch.
export LD_PRELOAD="$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libubsan.so):$(g++ -print-file-name=libstdc++.so.6)"
# Python and ONNX Runtime keep memory until the process ends: leaks are not asked for.
export ASAN_OPTIONS=detect_leaks=0:strict_init_order=1 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc

# The check must be able to fail: a table of functions that ends too early is read past its end.
if "$python" -c "
import ctypes, os
table = ctypes.create_string_buffer(100)
ctypes.CDLL(os.environ['DEEPTHIN_OPS_LIBRARY']).RegisterCustomOps(None, ctypes.byref(table, 96))
" 2>"$work/overflow.log"; then
    echo "FAIL: the sanitizer is not at work" >&2
    exit 1
fi
grep -q heap-buffer-overflow "$work/overflow.log" || { head -n 20 "$work/overflow.log" >&2; exit 1; }

# The sanitizer keeps freed memory to watch it, so what a process holds says nothing here.
"$python" -m pytest -q -p no:cacheprovider tests/ops --ignore=tests/ops/test_memory.py tests/decoding/test_search.py tests/decoding/test_graph_file.py \
    tests/compression/test_coders.py "$@"
