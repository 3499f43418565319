"""From a method and a size, or rules, to the plan of every weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from models.compression import chains
from models.compression.base import (
    CompressionError,
    ConvMethod,
    FastestMethod,
    Method,
    Plan,
    RankWish,
    SizeError,
    TableMethod,
)
from models.compression.network import Layer, Network
from models.compression.registry import method
from models.compression.spec import CompressionSpec, LayerRule


def plans(network: Network, spec: CompressionSpec) -> dict[str, Plan]:
    """The plan of every weight that `spec` compresses by method and size or by rules; those left dense are not in it.

    A rule's size holds for each weight it matches. The size beside `method` holds for all the remaining weights
    together: one that cannot be that small takes its smallest size, and the others make up for it.

    Raises:
        CompressionError: a rule matches no weight, or nothing is left to compress.
        SizeError: a size that cannot be had; the message names the weight, or the network, and the reachable range.
    """
    ruled = {layer.name: rule for rule in spec.compress for layer in _matched(network, rule)}
    chosen: dict[str, Plan] = {}
    for layer in network.layers:
        if (rule := ruled.get(layer.name)) is not None and rule.method != "dense":
            chosen[layer.name] = plan(method(rule.method), layer, rule.size, rank=rule.rank)
    if spec.method is not None and spec.method != "dense":
        rest = [layer for layer in network.layers if layer.name not in ruled]
        if spec.method == chains.NAME and spec.size is not None:
            chosen |= chains.chain_plans(network, rest, spec.size)
        else:
            chosen |= uniform(method(spec.method), rest, spec.size, rank=spec.rank)
    if not chosen and spec.method != "dense" and all(rule.method != "dense" for rule in spec.compress):
        raise CompressionError(f"nothing is left to compress: the weights are {_names(network.layers)}")
    order = {layer.name: index for index, layer in enumerate(network.layers)}
    return dict(sorted(chosen.items(), key=lambda item: order[item[0]]))


def plan(chosen: Method, layer: Layer, size: float, *, rank: RankWish = 1) -> Plan:
    """The plan of one weight.

    Raises:
        SizeError: it cannot be that small; the message names the weight.
    """
    try:
        if layer.lookups and not isinstance(chosen, TableMethod):
            raise CompressionError(f"{chosen.name} takes no table that is looked up")
        if layer.op == "Conv" and isinstance(chosen, ConvMethod):
            return chosen.plan_conv(layer.shape, size)
        if rank == "fastest":
            return takes_fastest(chosen).plan_fastest(layer.Q, layer.R, size)
        return chosen.plan(layer.Q, layer.R, size, rank=rank)
    except SizeError as error:
        raise SizeError(f"{layer.name}: {error}") from error
    except CompressionError as error:
        raise CompressionError(f"{layer.name}: {error}") from error


def takes_fastest(chosen: Method) -> FastestMethod:
    """The method, if it can choose its rank by time.

    Raises:
        CompressionError: it cannot.
    """
    if not isinstance(chosen, FastestMethod):
        raise CompressionError(f"{chosen.name} cannot choose its rank by time: rank 'fastest' is for deepthin")
    return chosen


def smallest(chosen: Method, layer: Layer) -> float | None:
    """The smallest relative size of a weight by a method; None where the method does not take such weights."""
    try:
        special = getattr(chosen, "conv_sizes", None)
        if layer.op == "Conv" and special is not None:
            return float(special(layer.shape)[0])
        low = chosen.sizes(layer.Q, layer.R)[0]
        plan(chosen, layer, low)
    except SizeError:
        # The reachable sizes of a kernel's shape may begin above those of its matrix.
        return _search(chosen, layer)
    except CompressionError:
        return None
    return low


def uniform(chosen: Method, layers: Iterable[Layer], size: float | None, *, rank: RankWish = 1) -> dict[str, Plan]:
    """Plans of `layers` that together take `size` of their dense bytes; None: as large as the method makes them.

    Raises:
        SizeError: together they cannot be that small; the message names the reachable range.
        CompressionError: the method takes none of them.
    """
    lows = {layer: smallest(chosen, layer) for layer in layers}
    # A weight that would not shrink stays as it is, and so does one that the method does not take.
    open_layers = [layer for layer, low in lows.items() if low is not None and low < 1]
    if not open_layers:
        raise CompressionError(f"{chosen.name} makes none of the weights smaller: {_names(lows)}")
    if size is None:
        return {layer.name: plan(chosen, layer, 1.0, rank=rank) for layer in open_layers}
    stuck = {layer for layer in lows if layer not in open_layers}
    if special_only(chosen):
        stuck = set()
    allowed = size * sum(layer.dense_bytes for layer in (*open_layers, *stuck))
    fixed: dict[Layer, Plan] = {}
    spent = float(sum(layer.dense_bytes for layer in stuck))
    while True:
        free = [layer for layer in open_layers if layer not in fixed]
        share = (allowed - spent) / max(sum(layer.dense_bytes for layer in free), 1)
        found = {layer: _attempt(chosen, layer, share, rank) for layer in free}
        failed = [layer for layer, each in found.items() if each is None]
        if not failed:
            fixed.update({layer: each for layer, each in found.items() if each is not None})
            _fill(chosen, fixed, free, allowed - spent - sum(fixed[layer].disk_bytes for layer in free), rank)
            return {layer.name: fixed[layer] for layer in open_layers}
        for layer in failed:
            fixed[layer] = plan(chosen, layer, lows[layer] or 1.0)
            spent += fixed[layer].disk_bytes
        if spent > allowed:
            everything = [plan(chosen, layer, lows[layer] or 1.0).disk_bytes for layer in open_layers]
            least = sum(everything) + sum(layer.dense_bytes for layer in stuck)
            total = sum(layer.dense_bytes for layer in (*open_layers, *stuck))
            raise SizeError(
                f"{chosen.name} cannot store the network at relative size {size:.6g}: "
                f"it reaches {least / total:.6g} to 1"
            )


def _fill(chosen: Method, plans: dict[Layer, Plan], layers: Iterable[Layer], left: float, rank: RankWish) -> None:
    """Give what rounding left over to single weights, at most a third more to each, the smallest share first."""
    for layer in sorted(layers, key=lambda each: plans[each].relative_size):
        now = plans[layer].disk_bytes
        larger = _attempt(chosen, layer, min((now + min(left, now / 3)) / layer.dense_bytes, 1.0), rank)
        if larger is not None and now < larger.disk_bytes <= now + left:
            left -= larger.disk_bytes - now
            plans[layer] = larger


def special_only(chosen: Method) -> bool:
    """Whether a method is for convolutions alone, so that other weights are not its business."""
    return bool(getattr(chosen, "only_convolutions", False))


def rounds_inputs(chosen: Method) -> bool:
    """Whether what a method exports rounds its inputs to 8 bits over the range of the whole tensor."""
    return bool(getattr(chosen, "rounds_inputs", False))


def totals(network: Network, chosen: Mapping[str, Plan]) -> tuple[int, int]:
    """Bytes on disk of all compressible weights as planned (dense ones in fp32), and dense."""
    dense = sum(layer.dense_bytes for layer in network.layers)
    saved = sum(layer.dense_bytes - chosen[layer.name].disk_bytes for layer in network.layers if layer.name in chosen)
    return dense - saved, dense


def _matched(network: Network, rule: LayerRule) -> list[Layer]:
    matched = network.matching(rule.pattern)
    if not matched:
        aside = [f"{skipped.name} ({skipped.reason})" for skipped in network.skipped][:4]
        more = f"; these stay as they are: {', '.join(aside)}" if aside else ""
        raise CompressionError(
            f"rule {rule.pattern!r} matches no weight; the weights are {_names(network.layers)}{more}"
        )
    return matched


def _attempt(chosen: Method, layer: Layer, size: float, rank: RankWish) -> Plan | None:
    try:
        return plan(chosen, layer, size, rank=rank) if size > 0 else None
    except SizeError:
        return None


def _search(chosen: Method, layer: Layer) -> float | None:
    low, high = 0.0, 1.0
    if _attempt(chosen, layer, high, 1) is None:
        return None
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        if _attempt(chosen, layer, middle, 1) is None:
            low = middle
        else:
            high = middle
    return high


def _names(layers: Iterable[Layer]) -> str:
    names = [f"{layer.name} [{layer.Q} x {layer.R}]" for layer in layers]
    return ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
