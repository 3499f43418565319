"""Files that nobody should post to `/compress`: damaged, untrue, or made to hurt. All of them are made on the spot."""

from __future__ import annotations

import io
import json
import os
import pickle
import stat
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from models.decoding.lexicon import UNITS
from models.package import manifest_text
from tests.compression import networks
from tests.service.jobs import zipped
from tests.support import babble, encode, tiny_graph, tiny_manifest

Change = Callable[[onnx.ModelProto], object]

CONFIG = b'name = "tiny"\nfamily = "tfkaldi"\n[front_end]\nbins = 6\n' + (
    b"[tfkaldi]\ncontext = 1\nhidden = [24, 20]\nbottleneck = 8\nwide_context = 1\ntop = [16]\n"
)


class Code:
    """What would write a file if anybody unpickled it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("/tmp/deepthin-was-here",)


PICKLE = pickle.dumps(Code())


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload and what must be said of it.

    Attributes:
        param: the field that is at fault.
        says: what the message must say, as a regular expression.
        files: the files of the form, by field.
        spec: fields of the spec, over `{"method": "low-rank", "size": 0.5}`.
        status: of the answer.
    """

    param: str
    says: str
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    status: int = 400


def sound() -> onnx.ModelProto:
    """A network that can be compressed."""
    return networks.feed_forward()


def changed(change: Change) -> bytes:
    """That network with one thing wrong."""
    model = sound()
    change(model)
    return bytes(model.SerializeToString())


def network(change: Change, says: str) -> Upload:
    """An upload of that."""
    return Upload("checkpoint", says, {"checkpoint": ("net.onnx", changed(change))})


def raw(data: bytes, says: str, name: str = "net.onnx", status: int = 400) -> Upload:
    """An upload of some bytes."""
    return Upload("checkpoint", says, {"checkpoint": (name, data)}, status=status)


def package(says: str, files: dict[str, bytes]) -> Upload:
    """An upload of a zip file."""
    return raw(zipped(files), says, "net.zip")


def packed(says: str, *, graph: bytes | None = None, **manifest: Any) -> Upload:
    """An upload of a model package whose manifest says something else than its network."""
    text = json.loads(manifest_text(tiny_manifest("tiny")))
    graph = tiny_graph(recurrent=False) if graph is None else graph
    return package(says, {"manifest.json": json.dumps({**text, **manifest}).encode(), "model.onnx": graph})


def tensors(
    says: str, changes: Mapping[str, Any] | None = None, *, config: bytes = CONFIG, param: str = "checkpoint"
) -> Upload:
    """An upload of a safetensors file; a change to None takes a tensor out."""
    shapes = {"hidden.0": (24, 18), "hidden.1": (20, 24), "bottleneck": (8, 20), "top.0": (16, 24)}
    made: dict[str, Any] = {}
    for name, shape in {**shapes, "output": (len(UNITS), 16)}.items():
        made |= {f"{name}.weight": networks.random(*shape), f"{name}.bias": networks.random(shape[0])}
    made = {name: array for name, array in {**made, **(changes or {})}.items() if array is not None}
    return Upload(param, says, {"checkpoint": ("net.safetensors", save(made)), "config": ("c.toml", config)})


def header(text: str, says: str, data: bytes = b"") -> Upload:
    """An upload of a safetensors file with this header."""
    content = len(text).to_bytes(8, "little") + text.encode() + data
    return Upload("checkpoint", says, {"checkpoint": ("net.safetensors", content), "config": ("c.toml", CONFIG)})


def corpus(kind: str, says: str, files: dict[str, bytes]) -> Upload:
    """An upload of a corpus with a sound network."""
    checkpoint = ("net.onnx", sound().SerializeToString())
    return Upload(kind, says, {"checkpoint": checkpoint, kind: ("c.zip", zipped(files))}, {"front_end": {"bins": 24}})


def wish(param: str, says: str, **spec: Any) -> Upload:
    """A sound network and a spec that cannot be met."""
    return Upload(param, says, {"checkpoint": ("net.onnx", sound().SerializeToString())}, spec)


def poisoned(value: float, tensor: int = 0) -> Change:
    """One number of one weight is none."""

    def change(model: onnx.ModelProto) -> None:
        stored = model.graph.initializer[tensor]
        array = numpy_helper.to_array(stored).copy()
        array.reshape(-1)[-1] = value
        stored.CopyFrom(numpy_helper.from_array(array, stored.name))

    return change


def elsewhere(location: str) -> Change:
    """A weight is in another file."""

    def change(model: onnx.ModelProto) -> None:
        stored = model.graph.initializer[0]
        stored.ClearField("raw_data")
        stored.data_location = TensorProto.EXTERNAL
        stored.external_data.add(key="location", value=location)

    return change


def resized(*dims: int) -> Change:
    """A weight claims another shape."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].dims[:] = dims

    return change


def cut_short(model: onnx.ModelProto) -> None:
    """A weight has fewer bytes than its shape takes."""
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]


def cyclic(model: onnx.ModelProto) -> None:
    """The first node reads what the last one makes."""
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


def doubled(model: onnx.ModelProto) -> None:
    """Two nodes make the same value."""
    model.graph.node.append(model.graph.node[0])


def opset(version: int) -> Change:
    """The network claims another version of the operators."""

    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    return change


def misfit(model: onnx.ModelProto) -> None:
    """The second weight does not take what the first one gives."""
    stored = next(tensor for tensor in model.graph.initializer if tensor.name == "layer1.weight")
    stored.CopyFrom(numpy_helper.from_array(networks.random(47, 40), stored.name))


def laughing(depth: int) -> Change:
    """Functions that each call the next one twice: a billion nodes in a few lines."""

    def change(model: onnx.ModelProto) -> None:
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("laugh", 1)]
        model.opset_import.append(imports[1])
        for level in range(depth):
            call, domain = ("Relu", "") if level == depth - 1 else (f"f{level + 1}", "laugh")
            nodes = [
                helper.make_node(call, ["a"], ["b"], domain=domain),
                helper.make_node(call, ["b"], ["c"], domain=domain),
            ]
            model.functions.append(helper.make_function("laugh", f"f{level}", ["a"], ["c"], nodes, imports))
        model.graph.node.append(helper.make_node("f0", ["log_probs"], ["laughed"], domain="laugh"))

    return change


def recursive(model: onnx.ModelProto) -> None:
    """A function that calls itself."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.opset_import.append(imports[1])
    call = helper.make_node("f", ["a"], ["b"], domain="own")
    model.functions.append(helper.make_function("own", "f", ["a"], ["b"], [call], imports))
    model.graph.node.append(helper.make_node("f", ["log_probs"], ["again"], domain="own"))


def crowded(model: onnx.ModelProto) -> None:
    """More nodes than any network has."""
    model.graph.node.extend([helper.make_node("Relu", ["features"], [f"n{index}"]) for index in range(200_001)])


def foreign(domain: str, op: str) -> Change:
    """A node of another domain."""

    def change(model: onnx.ModelProto) -> None:
        model.opset_import.append(helper.make_opsetid(domain, 1))
        model.graph.node[0].op_type, model.graph.node[0].domain = op, domain

    return change


def sparse(model: onnx.ModelProto) -> None:
    """A sparse weight."""
    model.graph.sparse_initializer.add().values.name = "layer0.weight"


def strings(model: onnx.ModelProto) -> None:
    """A weight of texts."""
    stored = model.graph.initializer[0]
    stored.CopyFrom(numpy_helper.from_array(np.full((24, 48), "x", object), stored.name))


def twisted(model: onnx.ModelProto) -> None:
    """A Transpose of axes that its weight does not have."""
    model.graph.node.insert(0, helper.make_node("Transpose", ["layer0.weight"], ["turned"], perm=[7, -3]))
    model.graph.node[1].input[1] = "turned"


def linked() -> bytes:
    """A zip file with a link to another file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        info = zipfile.ZipInfo("model.onnx")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def bomb() -> bytes:
    """A zip file that unpacks to a thousand times its size."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model.onnx", bytes(50 << 20))
    return buffer.getvalue()


def damaged() -> bytes:
    """A zip file whose network was changed after it was packed."""
    data = bytearray(zipped({"model.onnx": sound().SerializeToString()}))
    data[2000] ^= 255
    return bytes(data)


def table(*rows: str) -> bytes:
    """A corpus's table."""
    return "\n".join(("utterance\tpath\ttranscript", *rows)).encode()


SPEECH = encode(babble(0.5))
WHOLE = sound().SerializeToString()
