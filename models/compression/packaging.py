"""The stage `gate` of a job: the package, the bitstream and the report, and whether the model may be hosted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from models.compression import stages
from models.compression.assess import SLOWER
from models.compression.registry import method
from models.compression.report import FORMAT, as_json, layer_reports, totals, weight_bytes
from models.compression.transport import LayerStream, pack
from models.package import Manifest

if TYPE_CHECKING:
    from models.compression.job import Job

REPORT: Final = "report.json"
TRANSPORT: Final = "model.dtz"
MIXED: Final = "mixed"


@dataclass(frozen=True, slots=True)
class Result:
    """The results of a finished job; see `models.compression.pipeline.Outcome`."""

    package: Path
    transport: Path
    report: Path
    accepted: bool
    reasons: tuple[str, ...]


def load_result(folder: Path) -> Result:
    """The results in `folder`."""
    report = stages.read_json(folder / REPORT)
    return Result(
        folder / report["name"],
        folder / TRANSPORT,
        folder / REPORT,
        report["gate"]["accepted"],
        tuple(report["gate"]["reasons"]),
    )


def pack_result(job: Job, folder: Path) -> None:
    """Write the package, the bitstream and, last, the report."""
    stages.clear(folder)
    folder.mkdir()
    state = job.final
    measured = stages.read_json(job.stages.folder("evaluate") / "evaluation.json")
    streams: dict[str, LayerStream] = {}
    for name, compressed in state.layers.items():
        chosen = method(compressed.plan.method)
        streams[name] = (chosen.name, compressed.plan, chosen.encode(compressed))
    lengths = {name: len(stream) for name, (_, _, stream) in streams.items()}
    layers = layer_reports(job.network, state.layers, lengths, state.seconds, job.half)
    methods = {name: compressed.plan.method for name, compressed in state.layers.items()}
    values, disk, resident = weight_bytes(job.exported, state.layers)
    dense_values, parent_disk, parent_resident = weight_bytes(job.original, {})
    sums = totals(layers)
    fields: dict[str, Any] = {
        **_inherited(job),
        "name": _name(job, methods),
        "method": _method(methods),
        "methods": methods,
        "relative_size": min(sums["relative_size"], 1.0),
        "weights": {
            "parameters": values,
            "dense_parameters": dense_values,
            "disk_bytes": disk,
            "resident_bytes": resident,
        },
        "quality": measured["quality"],
    }
    package = job.save_package(folder, Manifest.model_validate_json(json.dumps(fields)), job.exported)
    stream = pack(package.path, streams)
    package = job.save_package(folder, package.manifest.with_transport_bytes(len(stream)), job.exported)
    graphs = sum((package.path / name).stat().st_size for name in package.manifest.networks)
    stages.write(folder / TRANSPORT, stream)
    accepted, reasons = _gate(job, measured)
    report = {
        "format": FORMAT,
        "name": fields["name"],
        "method": fields["method"],
        "family": fields["family"],
        "layers": as_json(layers),
        "skipped": [
            {"name": skipped.name, "values": skipped.values, "reason": skipped.reason}
            for skipped in job.network.skipped
        ],
        "dequantised": job.quantised,
        "weights": sums,
        "bytes": {
            "transport": len(stream),
            "disk": graphs,
            "resident": resident,
            "initialisers": disk,
        },
        "parent": {
            "name": job.manifest.name if job.manifest is not None else None,
            "disk": job.original.ByteSize(),
            "initialisers": parent_disk,
            "resident": parent_resident,
            "dense": sums["dense"],
        },
        "calibration": {
            "corpora": list(job.spec.calibration),
            "seconds": job.spec.calibration_seconds if job.spec.calibration else 0,
        },
        "fine_tune": _optional(job.stages.folder("fine-tune") / "facts.json"),
        "search": _optional(job.stages.folder("plan") / "notes.json") or None,
        "parity": stages.read_json(job.stages.folder("parity") / "parity.json"),
        **measured,
        "gate": {"accepted": accepted, "reasons": reasons},
        "spec": json.loads(job.spec.model_dump_json()),
    }
    stages.write_json(folder / REPORT, report)


def _gate(job: Job, measured: Mapping[str, Any]) -> tuple[bool, list[str]]:
    reasons = []
    limit = job.spec.max_wer_delta
    if limit is None and job.spec.budget is not None:
        limit = job.spec.budget.max_wer_delta
    if limit is not None and measured["quality"]:
        for corpus, quality in measured["quality"].items():
            before, after = measured["parent_quality"][corpus]["wer"], quality["wer"]
            if after - before > limit + 1e-12:
                reasons.append(
                    f"word error rate on {corpus} is {after:.2%}, {after - before:+.2%} against the parent's "
                    f"{before:.2%}; {limit:.2%} more is allowed"
                )
    elif limit is not None:
        lost = 1.0 - measured["agreement"]["phones"]
        if lost > limit + 1e-12:
            reasons.append(f"{lost:.2%} of the output sequence differ from the parent's; {limit:.2%} are allowed")
    ratio = measured["speed"]["ratio"]
    if ratio > SLOWER and not job.spec.allow_slower:
        reasons.append(f"it takes {ratio:.2f} times the parent's time; allow_slower would let it through")
    return not reasons, reasons


def _inherited(job: Job) -> dict[str, Any]:
    if job.manifest is not None:
        kept = job.manifest.model_dump(mode="json")
        return {**kept, "parent": job.manifest.name, "description": _described(job.manifest)}
    front_end = job.spec.front_end
    rate = job.inputs.sample_rate if job.inputs is not None else 16_000
    return {"family": "network", "front_end": front_end, "sample_rate": rate}


def _described(manifest: Manifest) -> str:
    return manifest.description.removesuffix(", dense") + ", compressed" if manifest.description else ""


def _method(methods: Mapping[str, str]) -> str:
    kinds = set(methods.values())
    return kinds.pop() if len(kinds) == 1 else MIXED if kinds else "dense"


def _name(job: Job, methods: Mapping[str, str]) -> str:
    if job.spec.name is not None:
        return job.spec.name
    base = (
        job.manifest.name
        if job.manifest is not None
        else re.sub(r"[^a-z0-9._-]+", "-", job.original.graph.name.lower())
    )
    size = "" if job.spec.size is None else f"-{job.spec.size:g}"
    ending = f"-{_method(methods)}{size}"
    return (base.strip("-._") or "network")[: 64 - len(ending)] + ending


def _optional(path: Path) -> Any:
    return stages.read_json(path) if path.is_file() else None
