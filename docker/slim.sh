#!/bin/sh
# Takes out of the virtual environment in $1 what a running service never opens: about 190 MB of 350. TARGET and CC are
# target.sh's.
set -eu
cd "$1"/lib/python3*/site-packages

# Tests and test data; headers and stubs for compilers and editors.
find . -type d \( -name tests -o -name include \) -prune -exec rm -rf {} +
find . -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.h' -o -name '*.hpp' -o -name '*.cc' \
    -o -name '*.proto' -o -name '*.a' -o -name '*.lib' \) -delete
rm -rf onnx/backend onnx/reference onnx/fuzz numpy/f2py numpy/distutils numpy/_core/_simd.*.so

# The Python module of ONNX Runtime holds all of it; this is the same again for C programs.
rm -f onnxruntime/capi/libonnxruntime.so*
# Python programs that prepare models for ONNX Runtime; DeepThin has its own.
rm -rf onnxruntime/transformers onnxruntime/quantization onnxruntime/tools onnxruntime/datasets

# What FFmpeg is linked against and nobody asks a service for speech for: encoders, TLS, screens and sound cards. In their
# place, libraries that have the names which the others want, in the versions that they want, and nothing behind them.
stub() {
    for library in av.libs/"$1"*.so*; do
        [ -e "$library" ] || continue
        "$TARGET-nm" -D --defined-only "$library" | awk '{sub("@.*", "", $NF); print $NF}' >/tmp/has
        for user in av.libs/*.so*; do
            [ "$user" = "$library" ] || "$TARGET-nm" -D --undefined-only "$user" | awk '{print $NF}'
        done | sort -u >/tmp/wanted
        : >/tmp/stub.map
        awk 'NR == FNR { has[$1]; next }
            { split($1, part, "@+") }
            part[1] in has { print "void *" part[1] "(void) { return 0; }"; names[part[2]] = names[part[2]] part[1] "; " }
            END { for (each in names) if (each != "") print each " { " names[each] "};" >"/tmp/stub.map" }' \
            /tmp/has /tmp/wanted >/tmp/stub.c
        name=$("$TARGET-objdump" -p "$library" | awk '$1 == "SONAME" {print $2}')
        [ -s /tmp/stub.map ] || echo '{ global: *; };' >/tmp/stub.map
        "$CC" -shared -fPIC -s -o "$library" -Wl,-soname,"$name" -Wl,--version-script=/tmp/stub.map /tmp/stub.c
    done
}
for each in libx264 libx265 libSvtAv1Enc libmp3lame libwebp libgnutls libasound libxcb; do
    stub "$each"
done
# Then what only those wanted.
while :; do
    find av av.libs -name '*.so*' -exec "$TARGET-objdump" -p {} + | awk '$1 == "NEEDED" {print $2}' | sort -u >/tmp/needed
    gone=$(find av.libs -name '*.so*' -printf '%f\n' | grep -vxFf /tmp/needed) || break
    (cd av.libs && echo "$gone" | xargs rm)
done

# Symbols that only a debugger reads. Not in *.libs: wheels patch those files in ways that strip breaks.
find . -path './*.libs' -prune -o -type f -name '*.so*' -size +64k -exec "$TARGET-strip" --strip-unneeded {} +

# The file system is read-only when it runs, so that Python could not keep these itself.
find . -type d -name __pycache__ -prune -exec rm -rf {} +
"$1"/bin/python -m compileall -q -j 0 .
