"""`python -m service.jobs.inspector FOLDER`: says what is wrong with an upload, in a process of its own.

The folder holds what a job's folder will hold, and the spec. What is wrong goes to the standard output as one line of
JSON, with the field of the form that is at fault; nothing is said of an upload that a job can begin with. Whatever a
stranger's file does to this process, the service only sees it end.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ops.errors import DeepThinError
from service import logs
from service.jobs.fields import CHECKPOINT, CONFIG, SPEC, SPEC_FILE
from service.jobs.memory import memory_limit
from service.jobs.process import die_with, messages, stand_back
from service.settings import Settings

_LONGEST_MESSAGE = 2000


class _Wrong(Exception):
    def __init__(self, message: str, param: str, *, trace: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.trace = trace


def main(argv: Sequence[str] | None = None) -> int:
    """Inspect the upload in the folder that is named first; the exit code."""
    parser = argparse.ArgumentParser("service.jobs.inspector", description="Inspect what was posted to /compress.")
    parser.add_argument("folder", type=Path, help="where the upload is")
    parser.add_argument("--parent", type=int, help="process to end with")
    args = parser.parse_args(argv)
    if args.parent is not None:
        die_with(args.parent)
    settings = Settings()
    logs.configure("info", settings.log_format)
    # A client waits for this, so that it waits for nobody; when memory runs out, it goes first all the same.
    stand_back(0, idle=False)
    output = messages()
    if (said := what_is_wrong(args.folder, settings)) is not None:
        with output:
            output.write(json.dumps(said) + "\n")
    return 0


def what_is_wrong(folder: Path, settings: Settings) -> dict[str, str | None] | None:
    """The complaint about the upload in `folder` as it is told to the service: `message`, `param` and, where the fault
    may be this program's, the `trace` of an exception; None for an upload that a job can begin with."""
    try:
        with _blamed_on(CHECKPOINT), memory_limit(settings.job_memory_bytes):
            _inspect(folder, settings.job_threads)
    except _Wrong as wrong:
        return {"message": str(wrong)[:_LONGEST_MESSAGE], "param": wrong.param, "trace": wrong.trace}
    return None


def _inspect(folder: Path, threads: int) -> None:
    # Slow to import.
    from models.compression.inspecting import check_fine_tuning, check_front_end, check_sizes, inspect
    from models.compression.spec import CompressionSpec
    from models.compression.tensors import ConfigError

    try:
        found = inspect(folder, threads=threads)
    except ConfigError as error:
        raise _Wrong(str(error), CONFIG) from error
    spec = CompressionSpec.model_validate_json((folder / SPEC_FILE).read_bytes())
    with _blamed_on(f"{SPEC}.compress" if spec.compress else f"{SPEC}.size"):
        check_sizes(found, spec)
    with _blamed_on(f"{SPEC}.front_end"):
        check_front_end(found, spec)
    with _blamed_on(f"{SPEC}.fine_tune"):
        check_fine_tuning(found, spec)


@contextmanager
def _blamed_on(param: str) -> Iterator[None]:
    """Let the errors of a block be those of a field of the form."""
    try:
        yield
    except _Wrong:
        raise
    except DeepThinError as error:
        raise _Wrong(str(error), param) from error
    except Exception as error:
        # Files of strangers find what no check looks for.
        message = f"{param} cannot be used: {type(error).__name__} (the log of the service says more)"
        raise _Wrong(message, param, trace=traceback.format_exc()) from error


if __name__ == "__main__":
    sys.exit(main())
