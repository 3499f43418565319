"""Compare the instructions that callgrind counted with those recorded: ``check.py DUMPS COMPILER [--renew]``."""

import json
import re
import sys
from pathlib import Path

RECORD = Path(__file__).with_name("counts.json")
TOLERANCE = 0.04
OTHER_COMPILER = 0.30
"""How many more instructions are taken for none; another compiler may choose others where ours loses nothing."""


def counted(dumps: Path) -> dict[str, int]:
    """Instructions by what was counted, of callgrind's dumps."""
    found = {}
    for path in dumps.iterdir():
        text = path.read_text(encoding="utf-8")
        name = re.search(r"^desc: Trigger: Client Request: (.+)$", text, re.MULTILINE)
        total = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
        if name and total:
            found[name[1]] = int(total[1])
    return dict(sorted(found.items()))


def slower(found: dict[str, int], recorded: dict[str, int], tolerance: float) -> list[str]:
    """A line for everything that takes too many instructions, or is not in both."""
    lines = [f"{name}: in one of the two lists only" for name in sorted(found.keys() ^ recorded.keys())]
    for name in found.keys() & recorded.keys():
        more = found[name] / recorded[name] - 1
        if more > tolerance:
            lines.append(f"{name}: {found[name]} instructions, {recorded[name]} recorded ({more:+.1%})")
    return sorted(lines)


def main() -> int:
    """0 where nothing takes more than it may."""
    dumps, compiler, *options = sys.argv[1:]
    found = counted(Path(dumps))
    if options == ["--renew"]:
        RECORD.write_text(json.dumps({"compiler": compiler, "counts": found}, indent=1) + "\n", encoding="utf-8")
        print(f"{len(found)} counts recorded with {compiler}")
        return 0
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    recorded = record["counts"]
    same = record["compiler"] == compiler
    tolerance = TOLERANCE if same else OTHER_COMPILER
    if not same:
        print(f"recorded with {record['compiler']} and built with {compiler}: {tolerance:.0%} more are taken for none")
    # The check must be able to fail: a count that has grown is found, and one that is missing.
    worse = {name: int(count * (1.02 + tolerance)) for name, count in recorded.items()}
    assert len(slower(worse, recorded, tolerance)) == len(recorded) > 0
    assert slower({}, recorded, tolerance)
    if lines := slower(found, recorded, tolerance):
        print("\n".join(lines))
        print("if this is meant: bash .ci/instructions.sh --renew")
        return 1
    fewer = sum(found[name] < (1 - TOLERANCE) * recorded[name] for name in found)
    note = f"; {fewer} take fewer than recorded, which --renew would hold" if fewer and same else ""
    print(f"{len(found)} kernels take no more than {tolerance:.0%} more instructions than recorded{note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
