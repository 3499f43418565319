#!/usr/bin/env bash
# Build the wheel, install it in an environment of its own, and use it from outside the source tree.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python=$work/venv/bin/python
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work" .
wheel=$(echo "$work"/deepthin-*.whl)
echo "$(basename "$wheel"): $(stat -c %s "$wheel") bytes"
"$python" - "$wheel" <<'PYTHON'
import sys
import zipfile

names = zipfile.ZipFile(sys.argv[1]).namelist()
wanted = ["ops/libdeepthin_ops.so", "models/store.py", "service/app.py", "service/demo/clip.ogg"]
wanted += ["service/page/index.html", "service/page/main.js"]
missing = [name for name in wanted if name not in names]
unwanted = [name for name in names if "/csrc/" in name or name.startswith(("tests/", "load_tests/"))]
if missing or unwanted:
    sys.exit(f"the wheel lacks {missing} and should not hold {unwanted}")
PYTHON
"$python" -m pip install --quiet --disable-pip-version-check "$wheel"
"$python" -m pip check
cd "$work"
"$python" - <<'PYTHON'
import importlib.util
from pathlib import Path

import ops
from ops import library

assert "site-packages" in ops.__file__, ops.__file__
path = library.library_path()
assert Path(ops.__file__).parent in path.parents, path
import onnxruntime

library.register(onnxruntime.SessionOptions())
assert importlib.util.find_spec("torch") is None, "PyTorch came along"
print(f"{path.name} loads: {path.stat().st_size} bytes")
PYTHON
venv/bin/deepthin --help >/dev/null
venv/bin/deepthin compress --list >/dev/null
venv/bin/deepthin models
