"""`make clip`: the demo's clip made anew from its text, with the speech synthesiser flite."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import av

from service.demo.recordings import CLIP, CLIP_TEXT

VOICE = "rms"
BIT_RATE = 32_000  # bits per second, as in the recordings that the models learned from


def main() -> int:
    """Write the clip; 1 when flite is not installed."""
    flite = shutil.which("flite")
    if flite is None:
        print("flite is not installed: sudo apt-get install flite", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        speech = Path(folder) / "speech.wav"
        # The text file holds the words alone; full stops between its lines give the voice its pauses.
        text = ". ".join(CLIP_TEXT.read_text(encoding="utf-8").splitlines())
        subprocess.run([flite, "-voice", VOICE, "-t", text, "-o", str(speech)], check=True)
        _encode(speech, CLIP)
    print(f"{CLIP} ({CLIP.stat().st_size} bytes)")
    return 0


def _encode(speech: Path, target: Path) -> None:
    with av.open(str(speech)) as source, av.open(str(target), "w") as sink:
        stream = sink.add_stream("libopus", rate=source.streams.audio[0].rate, options={"b": str(BIT_RATE)})
        for frame in source.decode(audio=0):
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))


if __name__ == "__main__":
    sys.exit(main())
