#!/usr/bin/env bash
# Pulls the published model, lets the tests hear it, and hosts a network that this project did not make.
set -euo pipefail
cd "$(dirname "$0")/.."

python=.venv/bin/python
[ -x "$python" ] || { echo "SKIP: no .venv with DeepThin installed"; exit 0; }
command -v npm >/dev/null || { echo "SKIP: no npm client"; exit 0; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export DEEPTHIN_HOME=$scratch/home

if ! npm view @moonshine-ai/moonshine-js@0.1.29 version >"$scratch/npm" 2>&1; then
    echo "SKIP: no npm registry can be reached"
    exit 0
fi
.venv/bin/deepthin models pull moonshine-tiny

if $python -m pip download --quiet --no-deps --only-binary=:all: --dest "$scratch" hama==1.3.13; then
    $python - "$scratch" <<'PYTHON'
import json
import sys
import zipfile
from pathlib import Path

scratch = Path(sys.argv[1])
folder = scratch / "hama-phones"
folder.mkdir()
[wheel] = scratch.glob("hama-1.3.13-*.whl")
with zipfile.ZipFile(wheel) as archive:
    (folder / "model.onnx").write_bytes(archive.read("hama/assets/asr_waveform_fp16.onnx"))
    tokens = json.loads(archive.read("hama/assets/g2p_vocab.json"))["decoder"]
(folder / "tokens.json").write_text(json.dumps([*tokens, "<wb>", "<blank>"]))
settings = {
    "front_end": {"kind": "waveform"},
    "tokens": "tokens.json",
    "blank": "<blank>",
    "separator": "<wb>",
    "word_start": "",
    "silent": ["<pad>", "<sos>", "<eos>", "<unk>", " "],
}
manifest = {"format": 1, "name": "hama-phones", "family": "ctc", "licence": "Apache-2.0", "ctc": settings}
(folder / "manifest.json").write_text(json.dumps(manifest))
PYTHON
    .venv/bin/deepthin models add "$scratch/hama-phones"
    export DEEPTHIN_HAMA=$DEEPTHIN_HOME/models/hama-phones
fi
DEEPTHIN_MOONSHINE=$DEEPTHIN_HOME/models/moonshine-tiny $python -m pytest -q tests/models/test_moonshine.py tests/models/test_ctc.py

# One compression of the pulled model, encoder and decoder, without audio: the whole path in half a minute.
.venv/bin/deepthin compress moonshine-tiny --rule 'encoder/onnx*=int8:1' --rule 'decoder/*=int4-compact:1' \
    --name moonshine-small --allow-slower --quiet -o "$scratch/out"
.venv/bin/deepthin models add "$scratch/out/moonshine-small"
.venv/bin/deepthin transcribe --model moonshine-small service/demo/clip.ogg >"$scratch/heard"
grep -qi 'old man' "$scratch/heard" || { echo "the compressed model heard:"; cat "$scratch/heard"; exit 1; }
