#!/bin/sh
# Takes out of the virtual environment in $1 what a running service never opens: about 170 MB of 350.
set -eu
cd "$1"/lib/python3*/site-packages

# Tests and test data; headers and stubs for compilers and editors.
find . -type d \( -name tests -o -name include \) -prune -exec rm -rf {} +
find . -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.h' -o -name '*.hpp' -o -name '*.cc' \
    -o -name '*.proto' -o -name '*.a' -o -name '*.lib' \) -delete
rm -rf onnx/backend numpy/f2py numpy/distutils numpy/_core/_simd.*.so

# The Python module of ONNX Runtime holds all of it; this is the same again for C programs.
rm -f onnxruntime/capi/libonnxruntime.so*
# Python programs that prepare models for ONNX Runtime; DeepThin has its own.
rm -rf onnxruntime/transformers onnxruntime/quantization onnxruntime/tools onnxruntime/datasets

# Encoders of video, which FFmpeg is linked against and which nobody asks a service for speech for: in their place,
# libraries that have the names which the others want, and nothing behind them.
stub() {
    for library in av.libs/"$1"*.so*; do
        [ -e "$library" ] || continue
        nm -D --defined-only "$library" | awk '{print $NF}' | sort -u >/tmp/has
        for user in av.libs/*.so*; do
            [ "$user" = "$library" ] || nm -D --undefined-only "$user" | awk '{print $NF}'
        done | sort -u | comm -12 - /tmp/has | sed 's/.*/void *&(void) { return 0; }/' >/tmp/stub.c
        name=$(objdump -p "$library" | awk '$1 == "SONAME" {print $2}')
        gcc -shared -fPIC -s -o "$library" -Wl,-soname,"$name" /tmp/stub.c
    done
}
stub libx265
stub libSvtAv1Enc

# Symbols that only a debugger reads. Not in *.libs: wheels patch those files in ways that strip breaks.
find . -path './*.libs' -prune -o -type f -name '*.so*' -size +64k -exec strip --strip-unneeded {} +

# The file system is read-only when it runs, so that Python could not keep these itself.
find . -type d -name __pycache__ -prune -exec rm -rf {} +
"$1"/bin/python -m compileall -q -j 0 .
