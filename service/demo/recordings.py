"""What the demo sends: its own clip, the user's recording, or a few of a corpus."""

from dataclasses import dataclass
from pathlib import Path

from models.evaluation import Utterance, read_corpus

CLIP = Path(__file__).parent / "clip.ogg"
CLIP_TEXT = CLIP.with_suffix(".txt")
CORPORA = ("librispeech-dev", "an4-test")


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording to transcribe.

    Attributes:
        title: what it is, for people.
        data: the file as it is.
        reference: what is said in it, in lower case; None when nobody wrote it down.
    """

    title: str
    data: bytes
    reference: str | None


def own_clip() -> Recording:
    """The clip that comes with DeepThin: a synthetic voice."""
    return Recording(
        'the bundled clip, read by a SYNTHETIC voice (flite, CMU\'s "rms" voice)',
        CLIP.read_bytes(),
        " ".join(CLIP_TEXT.read_text(encoding="utf-8").split()),
    )


def from_file(path: Path) -> Recording:
    """The user's recording.

    Raises:
        OSError: it cannot be read.
    """
    return Recording(str(path), path.read_bytes(), None)


def from_corpora(data: Path, each: int) -> list[Recording]:
    """`each` recordings of every corpus in `CORPORA` that `data` holds, spread evenly over its table."""
    recordings = []
    for corpus in CORPORA:
        if (data / corpus).is_dir():
            utterances = read_corpus(data / corpus)
            step = max(len(utterances) // each, 1)
            recordings += [_from_utterance(corpus, chosen) for chosen in utterances[step // 2 :: step][:each]]
    return recordings


def _from_utterance(corpus: str, utterance: Utterance) -> Recording:
    title = f"{corpus}, {utterance.name}: a real recording"
    return Recording(title, utterance.path.read_bytes(), utterance.transcript.lower())
