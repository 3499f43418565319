#!/usr/bin/env bash
# The operator library cross-built for aarch64, its kernels run against the reference under emulation: with a real
# aarch64 Python and ONNX Runtime, by .ci/emulated.py. Emulation says nothing about speed.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/debian.sh

if [ "$(uname -m)" = aarch64 ]; then
    echo "SKIP: this is an aarch64 machine, whose own tests run these kernels"
    exit 0
fi
need cmake cmake
need make make
need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
host_python=${PYTHON:-.venv/bin/python}
"$host_python" -m pip --version >/dev/null
work=build/aarch64
mkdir -p "$work"

cmake -S . -B "$work/build" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ >"$work/cmake.log" || { cat "$work/cmake.log" >&2; exit 1; }
cmake --build "$work/build" --parallel 2
library=$PWD/$work/build/libdeepthin_ops.so
aarch64-linux-gnu-readelf -h "$library" | grep -q AArch64

# qemu of Debian 12 crashes in ONNX Runtime: the emulator is Debian 13's.
fetch_trixie "$work/qemu" qemu-user
qemu=$PWD/$work/qemu/root/usr/bin/qemu-aarch64
TRIXIE_ARCHITECTURE=arm64 fetch_trixie "$work/python" python3.13-minimal libpython3.13-minimal libpython3.13-stdlib \
    libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libssl3t64 libbz2-1.0 liblzma5 libzstd1
root=$PWD/$work/python/root
[ -e "$root/lib" ] || ln -s usr/lib "$root/lib"
packages=$PWD/$work/packages
[ -d "$packages/onnxruntime" ] || "$host_python" -m pip install --quiet --target "$packages" --only-binary :all: \
    --python-version 3.13 --implementation cp --abi cp313 --platform manylinux_2_28_aarch64 \
    --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 --platform any onnxruntime numpy

# A Cortex-A53 has no dot-product or half-float instructions: what runs there runs everywhere.
for cpu in cortex-a53 max; do
    DEEPTHIN_OPS_LIBRARY=$library PYTHONPATH=$PWD:$packages PYTHONDONTWRITEBYTECODE=1 timeout 300 \
        "$qemu" -L "$root" -cpu "$cpu" "$root/usr/bin/python3.13" .ci/emulated.py "$cpu"
done
