"""``deepthin bench coders``: size and throughput of the entropy coders on four million symbols of several kinds.

A row compares a stream with the empirical entropy of its symbols, the smallest size that any coder can reach that
takes each symbol by itself. Throughput is the median over the rounds, in megabytes of symbols.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from ops.benchmarks.report import report
from ops.coders import Symbols, huffman_decode, huffman_encode, range_decode, range_encode

SYMBOLS = 4_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of symbols through one coder.

    Attributes:
        data: What the symbols look like.
        coder: Which coder.
        symbols: How many.
        symbol_bytes: Bytes of the symbols uncoded.
        entropy_bytes: Their empirical entropy.
        coded_bytes: The stream, with the coder's model in it.
        excess: Bytes above the entropy by the entropy.
        encode_mb_s, decode_mb_s: Megabytes of symbols in a second.
    """

    data: str
    coder: str
    symbols: int
    symbol_bytes: int
    entropy_bytes: float
    coded_bytes: int
    excess: float
    encode_mb_s: float
    decode_mb_s: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""
    return report(
        argv,
        prog="deepthin bench coders",
        description="Size and throughput of the range coder and of Huffman codes.",
        quick="a tenth of the symbols, with fewer rounds",
        rows=lambda quick: measure(SYMBOLS // 10, 2) if quick else measure(SYMBOLS, 5),
        head=f"{'symbols':<28} {'coder':<8} {'entropy':>9} {'coded':>9} {'excess':>8} {'encode':>9} {'decode':>9}",
        line=lambda row: (
            f"{row.data:<28} {row.coder:<8} {row.entropy_bytes:>9.0f} {row.coded_bytes:>9} {row.excess:>8.3%} "
            f"{row.encode_mb_s:>4.0f} MB/s {row.decode_mb_s:>4.0f} MB/s"
        ),
    )


def measure(count: int, rounds: int) -> Iterator[Row]:
    """Yield a row for every kind of symbols and coder."""
    for data, symbols in _data(count).items():
        entropy = entropy_bytes(symbols)
        for coder, (encode, decode) in _CODERS.items():
            stream, encoding = _timed(lambda: encode(symbols), rounds)  # noqa: B023 - called before the next round
            _, decoding = _timed(lambda: decode(stream, symbols.size, symbols.dtype), rounds)  # noqa: B023
            yield Row(
                data=data,
                coder=coder,
                symbols=symbols.size,
                symbol_bytes=symbols.nbytes,
                entropy_bytes=entropy,
                coded_bytes=len(stream),
                excess=len(stream) / entropy - 1,
                encode_mb_s=symbols.nbytes / encoding / 1e6,
                decode_mb_s=symbols.nbytes / decoding / 1e6,
            )


def entropy_bytes(symbols: Symbols) -> float:
    """Bytes that the symbols take at their empirical entropy, without any model."""
    counts = np.bincount(symbols)
    counts = counts[counts > 0]
    return float(counts @ np.log2(counts.sum() / counts)) / 8


def _range_encode(symbols: Symbols) -> bytes:
    stream = range_encode(symbols)
    assert stream is not None
    return stream


_CODERS: Mapping[str, tuple[Callable[[Symbols], bytes], Callable[..., npt.NDArray[Any]]]] = {
    "range": (_range_encode, range_decode),
    "Huffman": (huffman_encode, huffman_decode),
}


def _data(count: int) -> dict[str, Symbols]:
    rng = np.random.default_rng(0)

    def rounded(values: npt.NDArray[np.floating[Any]], dtype: npt.DTypeLike) -> Symbols:
        symbols: Symbols = np.clip(np.rint(values), 0, np.iinfo(dtype).max).astype(dtype)
        return symbols

    return {
        "codebook of 16, uint8": np.minimum(rounded(rng.normal(7.5, 1.8, count), np.uint8), np.uint8(15)),
        "normal weights, uint8": rounded(rng.normal(128, 12, count), np.uint8),
        "2 % not zero, uint8": np.where(rng.random(count) < 0.02, rng.integers(1, 9, count), 0).astype(np.uint8),
        "0.4 % not zero, uint8": np.where(rng.random(count) < 0.004, rng.integers(1, 9, count), 0).astype(np.uint8),
        "normal, 5,000 values, uint16": rounded(rng.normal(32768, 600, count), np.uint16),
        "gaps of a 5 % mask, uint16": rounded(rng.geometric(0.05, count) - 1.0, np.uint16),
        "Laplace, uint16": rounded(rng.laplace(32768, 60, count), np.uint16),
    }


def _timed(call: Callable[[], Any], rounds: int) -> tuple[Any, float]:
    """What `call` returns, and the median of its seconds."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return result, median(seconds)
