"""Asks the service at the base URL given for a transcript of the demo's clip; fails unless words come back."""

import json
import sys
import urllib.request
from pathlib import Path

clip = (Path(__file__).parent.parent / "service/demo/clip.ogg").read_bytes()
request = urllib.request.Request(f"{sys.argv[1]}/transcribe", clip, {"content-type": "audio/ogg"})
with urllib.request.urlopen(request, timeout=60) as response:
    answer = json.load(response)
print(f"{answer['model']}: {answer['text']}")
sys.exit(not answer["text"])
