"""Where a model in the home folder came from, and whether it is to be hosted: the file `job.json` in its package."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from service.files import write_whole

FILE: Final = "job.json"


class Placement(StrEnum):
    """What is to be done with a model that a job made."""

    HOSTED = "hosted"
    STORED = "stored"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Origin:
    """Why a model is here.

    Attributes:
        job: id of the job that made it.
        placement: whether it is to be hosted.
        reasons: why it is not, one sentence each.
    """

    job: str
    placement: Placement
    reasons: tuple[str, ...] = ()

    def write(self, package: Path) -> None:
        """Note this in the folder of a package."""
        write_whole(package / FILE, json.dumps(asdict(self), indent=2).encode())

    @classmethod
    def read(cls, package: Path) -> Origin | None:
        """What the folder of a package says; None for a model that no job made."""
        try:
            fields: Any = json.loads((package / FILE).read_bytes())
            return cls(str(fields["job"]), Placement(fields["placement"]), tuple(map(str, fields["reasons"])))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError):
            # Somebody changed it by hand: better not to host what may have been quarantined.
            return cls("", Placement.STORED, (f"{FILE} of the package cannot be read",))
