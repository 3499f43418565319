"""What can be told of a checkpoint, and of what is asked for it, before anything of it runs."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from models.compression import checkpoint
from models.compression.base import CompressionError
from models.compression.checkpoint import Checkpoint, CheckpointError
from models.compression.feeds import inputs_for
from models.compression.network import Network, find
from models.compression.normalise import Normalised, normalise
from models.compression.planning import plans
from models.compression.spec import CompressionSpec
from models.features import FrontEnd
from models.package import ModelPackage
from models.recognisers import load
from models.recognisers.base import GREEDY
from ops import library
from ops.errors import DeepThinError

NO_FRONT_END: Final = "calibration needs to know how recordings go into the network: give front_end, or a model package"


@dataclass(frozen=True, slots=True)
class Inspected:
    """A checkpoint that can be worked on.

    Attributes:
        read: the checkpoint as it came.
        normalised: its network in the one form for all.
        network: the same, with what can be compressed in it.
    """

    read: Checkpoint
    normalised: Normalised
    network: Network


def inspect(folder: Path, *, threads: int = 1) -> Inspected:
    """Read the checkpoint in a job's folder and look for all that is wrong with it; the network does not run.

    Raises:
        DeepThinError: it cannot be used; the message says why.
    """
    read = checkpoint.read(folder)
    checkpoint.values_are_finite(read.model)
    normalised = normalise(read.model)
    network = find(normalised.model)
    for layer in network.layers:
        if not np.isfinite(network.weight(layer)).all():
            raise CheckpointError(f"{layer.name} holds values that are not finite")
    for model in (read.model, network.model):
        try:
            library.session(model.SerializeToString(), threads=threads)
        except DeepThinError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions share no base class.
            message = str(error).splitlines()[0]
            raise CheckpointError(f"ONNX Runtime cannot open the network: {message}") from error
    _check_family(read, folder, threads)
    return Inspected(read, normalised, network)


def check_sizes(found: Inspected, spec: CompressionSpec) -> None:
    """See that every weight can be planned as `spec` asks; a budget is for a search to meet.

    Raises:
        SizeError: not at that size.
        CompressionError: a rule matches no weight, or nothing would be compressed.
    """
    if spec.budget is None:
        plans(found.network, spec)


def check_front_end(found: Inspected, spec: CompressionSpec) -> None:
    """See that recordings go into the network where `spec` needs that, and by the front end that it gives.

    Raises:
        CompressionError: they do not.
    """
    manifest = found.read.manifest
    if manifest is not None and (manifest.ctc is not None or manifest.moonshine is not None):
        return
    if spec.front_end is not None:
        inputs_for(found.read.model, manifest, FrontEnd.from_dict(dict(spec.front_end)))  # type: ignore[arg-type]
    elif spec.calibration and (manifest is None or manifest.front_end is None):
        raise CompressionError(NO_FRONT_END)


def check_fine_tuning(found: Inspected, spec: CompressionSpec) -> None:
    """See that a network can be fine-tuned here, if `spec` asks for that.

    Raises:
        CompressionError: PyTorch is missing, or the network has what cannot be trained.
    """
    if spec.fine_tune is not None:
        require_training()
        from models.training.onnx_net import OnnxNet

        OnnxNet(found.network.model)


def require_training() -> None:
    """See that networks can be trained here.

    Raises:
        CompressionError: PyTorch is missing.
    """
    try:
        import models.training.finetune  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] in ("models", "ops"):
            raise
        raise CompressionError(f"fine-tuning needs {error.name}: pip install 'deepthin[train]'") from error


def _check_family(read: Checkpoint, folder: Path, threads: int) -> None:
    """See that the networks of a package are what its manifest says."""
    manifest = read.manifest
    if manifest is None or manifest.family == "network":
        return
    with tempfile.TemporaryDirectory(prefix=".inspected-", dir=folder) as draft:
        package = ModelPackage.save(draft, manifest, read.files or read.model.SerializeToString())
        load(package.path, threads=threads, decoder=GREEDY)
