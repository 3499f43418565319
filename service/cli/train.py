"""`deepthin train`, which needs PyTorch and is therefore loaded on demand."""

from __future__ import annotations

from collections.abc import Sequence

from ops.errors import DeepThinError
from service.cli.common import Parsers


class TrainingUnavailableError(DeepThinError, ImportError):
    """The packages that training needs are not installed."""


def add_to(commands: Parsers) -> None:
    """Add the entry in the list of commands; the arguments belong to the delegate."""
    commands.add_parser("train", help="train and compress a model (needs PyTorch)", add_help=False)


def delegate(argv: Sequence[str]) -> int:
    """Run the trainer with the arguments after `train`.

    Raises:
        TrainingUnavailableError: a package that training needs is missing.
    """
    try:
        from models.training import cli
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] in ("models", "ops"):
            raise
        raise TrainingUnavailableError(f"training needs {error.name}: pip install 'deepthin[train]'") from error
    return cli.main(list(argv))
