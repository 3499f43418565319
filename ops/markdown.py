"""Parts of Markdown files that programs write: tables between two comments."""

from collections.abc import Iterable, Sequence


def update(text: str, part: str, begin: str, end: str) -> str:
    """`text` with `part` between the two comments.

    Raises:
        ValueError: `text` does not hold the two, in order.
    """
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (opened and closed):
        raise ValueError(f"the text needs a line {begin!r} and, after it, a line {end!r}")
    return f"{before}{begin}\n{part}\n{end}{after}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table whose first `left` columns are texts and whose others are numbers."""
    rules = ["---"] * left + ["--:"] * (len(header) - left)
    return "\n".join(line(cells) for cells in (header, rules, *rows))


def line(cells: Sequence[str]) -> str:
    """One row of a table."""
    return "| " + " | ".join(cells) + " |"
