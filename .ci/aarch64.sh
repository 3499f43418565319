#!/usr/bin/env bash
# The wheel cross-built for aarch64; under emulation, with a real aarch64 Python and ONNX Runtime, its kernels run against
# the reference (.ci/emulated.py) and the program transcribes a recording. Emulation says nothing about speed.
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

CMAKE_ARGS="-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++" \
    CMAKE_BUILD_PARALLEL_LEVEL=2 _PYTHON_HOST_PLATFORM=linux-aarch64 \
    "$host_python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work/wheel" \
    --config-settings build-dir="$work/cmake" .
# aarch64_pip ARGUMENT...: install into the folder of packages for the emulated Python.
packages=$PWD/$work/packages
aarch64_pip() {
    local platforms=() each
    for each in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 linux; do
        platforms+=(--platform "${each}_aarch64")
    done
    "$host_python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --python-version 3.13 \
        --implementation cp --abi cp313 "${platforms[@]}" --platform any --target "$packages" --upgrade "$@"
}
# kmeans1d has no wheels, so that an image compiles it; only codebooks need it.
mapfile -t needed < <("$host_python" -c 'import tomllib
for need in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]:
    if not need.startswith("kmeans1d"):
        print(need)')
aarch64_pip "${needed[@]}"
aarch64_pip --no-deps "$work"/wheel/deepthin-*aarch64.whl
library=$packages/ops/libdeepthin_ops.so
aarch64-linux-gnu-readelf -h "$library" | grep -q AArch64

# qemu of Debian 12 crashes in ONNX Runtime: the emulator is Debian 13's.
fetch_trixie "$work/qemu" qemu-user
qemu=$PWD/$work/qemu/root/usr/bin/qemu-aarch64
TRIXIE_ARCHITECTURE=arm64 fetch_trixie "$work/python" python3.13-minimal libpython3.13-minimal libpython3.13-stdlib \
    libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libssl3t64 libbz2-1.0 liblzma5 libzstd1
root=$PWD/$work/python/root
[ -e "$root/lib" ] || ln -s usr/lib "$root/lib"
# A Cortex-A53 has no dot-product or half-float instructions: what runs there runs everywhere.
for cpu in cortex-a53 max; do
    DEEPTHIN_OPS_LIBRARY=$library PYTHONPATH=$PWD:$packages PYTHONDONTWRITEBYTECODE=1 timeout 300 \
        "$qemu" -L "$root" -cpu "$cpu" "$root/usr/bin/python3.13" .ci/emulated.py "$cpu"
done

# All of the program: the recording decoded by FFmpeg, the network by ONNX Runtime, the words by the search.
text=$(cd "$work" && PYTHONPATH=$packages PYTHONDONTWRITEBYTECODE=1 timeout 300 \
    "$qemu" -L "$root" -cpu max "$root/usr/bin/python3.13" -m service.cli transcribe "$packages/service/demo/clip.ogg")
echo "aarch64: $text"
[ "$text" = "$("$host_python" -m service.cli transcribe service/demo/clip.ogg)" ]
