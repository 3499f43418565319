"""The fields of the form that `POST /compress` takes, and what a job's folder calls what is in them."""

from __future__ import annotations

from typing import Final

CHECKPOINT: Final = "checkpoint"
SPEC: Final = "spec"
CONFIG: Final = "config"
CORPORA: Final = ("calibration", "evaluation")
FIELDS: Final = (CHECKPOINT, SPEC, CONFIG, *CORPORA)

SPEC_FILE: Final = "spec.upload"
"""Where the spec is while it is looked at; jobs have it in the store."""

FILES: Final = {SPEC: SPEC_FILE, CONFIG: "config.toml", **{field: f"{field}.zip" for field in CORPORA}}
"""File by field; that of the checkpoint keeps its ending."""
