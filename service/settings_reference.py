"""`python -m service.settings_reference docs/configuration.md`: writes the reference of all settings.

Names, types, limits and defaults come from the model `Settings`, the meanings from its documentation.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from service.settings import Settings

# The first setting of every section; those behind it belong to it too.
SECTIONS: Final = {
    "host": "Address and folders",
    "threads": "Work on audio",
    "queue_length": "Limits",
    "data": "Compression jobs",
    "api_keys": "Keys and logs",
}
# Defaults that depend on the machine.
COMPUTED: Final = {
    "home": "`~/.local/share/deepthin`",
    "threads": "one a core",
    "job_memory_bytes": "half of the machine's",
}

_HEAD = """\
# Configuration

<!-- Written by `python -m service.settings_reference docs/configuration.md`; change service/settings.py instead. -->

The service is set up by environment variables; `deepthin serve --help` names the few that are options too, which win
over the variables. Lists are written with commas between. A value that cannot be used stops the service at its start,
with the name of the variable; a variable that is not named here is ignored.
"""
_LIMITS = {"Ge": ("from", "ge"), "Gt": ("above", "gt"), "Le": ("to", "le"), "Lt": ("below", "lt")}
_TYPES: Final[dict[object, str]] = {
    bool: "`true` or `false`",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "folder",
    SecretStr: "text",
}


class UndocumentedSettingError(LookupError):
    """A setting without a word on what it means, or without a default that can be written down."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the reference to the file that is named; 0."""
    parser = argparse.ArgumentParser("service.settings_reference", description="Write the reference of all settings.")
    parser.add_argument("file", type=Path, help="Markdown file to write")
    parser.parse_args(argv).file.write_text(reference(), encoding="utf-8")
    return 0


def reference() -> str:
    """The reference as Markdown.

    Raises:
        UndocumentedSettingError: a setting is not described.
    """
    meanings = _meanings()
    lines = [_HEAD]
    for name, field in Settings.model_fields.items():
        if name in SECTIONS:
            lines += [
                f"\n## {SECTIONS[name]}\n",
                "| Variable | Value | Default | Meaning |",
                "| --- | --- | --- | --- |",
            ]
        if name not in meanings:
            raise UndocumentedSettingError(f"the documentation of Settings does not say what {name!r} is")
        value = _value(field.annotation, field.metadata)
        lines.append(f"| `DEEPTHIN_{name.upper()}` | {value} | {_default(name, field)} | {meanings[name]} |")
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def _meanings() -> dict[str, str]:
    attributes = inspect.cleandoc(Settings.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n {6,}.*)*)", attributes, re.MULTILINE)
    return {name: " ".join(text.split()).rstrip(".").replace("|", r"\|") for name, text in entries}


def _value(annotation: Any, metadata: Sequence[Any]) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if origin is tuple:
        return "list"
    if origin is UnionType:
        (annotation,) = (option for option in get_args(annotation) if option is not NoneType)
    limits = [
        f"{words} {_number(getattr(limit, attribute))}"
        for limit in metadata
        for words, attribute in [_LIMITS.get(type(limit).__name__, ("", ""))]
        if words
    ]
    return " ".join([_TYPES[annotation], *limits])


def _default(name: str, field: FieldInfo) -> str:
    if name in COMPUTED:
        return COMPUTED[name]
    default = field.default
    if default is PydanticUndefined:
        raise UndocumentedSettingError(f"the default of {name!r} depends on the machine: describe it in COMPUTED")
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, int | float):
        return f"`{_number(default)}`"
    return f"`{default}`" if default else "none"


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
