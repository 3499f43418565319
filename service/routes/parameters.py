"""Query parameters: given once, known, and of the right kind."""

from __future__ import annotations

from fastapi import Request

from service.errors import InvalidParameterError, UnknownParameterError


def parameter(request: Request, name: str) -> str | None:
    """The value of a parameter, or None.

    Raises:
        InvalidParameterError: it is there twice, or has no value.
    """
    values = request.query_params.getlist(name)
    if len(values) > 1 or values == [""]:
        raise InvalidParameterError(f"give {name!r} once, with a value", param=name)
    return values[0] if values else None


def flag(request: Request, name: str) -> bool:
    """Whether a parameter is `true`; False without it.

    Raises:
        InvalidParameterError: it is neither `true` nor `false`.
    """
    value = parameter(request, name)
    if value not in (None, "true", "false"):
        raise InvalidParameterError(f"{name!r} is true or false, not {value[:40]!r}", param=name)
    return value == "true"


def refuse_others(request: Request, known: set[str]) -> None:
    """See that there is no parameter besides the `known` ones.

    Raises:
        UnknownParameterError: there is one.
    """
    for name in request.query_params:
        if name not in known:
            raise UnknownParameterError(
                f"unknown parameter {name!r}; known: {', '.join(sorted(known)) or 'none'}", param=name
            )
