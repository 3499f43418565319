"""The part of the dashboard that holds method against method."""

from __future__ import annotations

from typing import Final

from service.observability.panels import RATE, Kind, Panel, Query, Row, Unit
from service.observability.queries import BY_MODEL, HOSTED, mean, quantile

_RTF: Final = mean("deepthin_real_time_factor_ratio", "model")
_NETWORK: Final = (
    f'sum by (model) (rate(deepthin_stage_duration_seconds_sum{{stage="infer"}}[{RATE}]))'
    f" / sum by (model) (rate(deepthin_audio_seconds_total[{RATE}]))"
)


def _speed_up(cost: str) -> str:
    """The parent's `cost`, under the name that its children know it by, divided by each child's own."""
    return (
        f'sum by (model, parent) (deepthin_model_info{{parent!="", {HOSTED}}})'
        f' * on (parent) group_left () sum by (parent) (label_replace({cost}, "parent", "$1", "model", "(.+)"))'
        f" / on (model) group_left () ({cost})"
    )


METHODS: Final = Row(
    "Method against method",
    (
        Panel(
            "Weights resident",
            "Bytes of the weights as inference keeps them, from their shapes.",
            Kind.BARS,
            Unit.BYTES,
            (Query(f'sum by (model) (deepthin_model_weight_bytes{{where="resident", {HOSTED}}})', BY_MODEL),),
        ),
        Panel(
            "Weights on disk and over the wire",
            "Bytes of the stored weights, and of the whole model as one stream where it was packed.",
            Kind.BARS,
            Unit.BYTES,
            (
                Query(
                    f'sum by (model, where) (deepthin_model_weight_bytes{{where!="resident", {HOSTED}}})',
                    "{{model}} ({{where}})",
                ),
            ),
        ),
        Panel(
            "Compression ratio",
            "Values of the uncompressed network by values stored.",
            Kind.BARS,
            Unit.TIMES,
            (Query(f"sum by (model) (deepthin_model_compression_ratio{{{HOSTED}}})", BY_MODEL),),
        ),
        Panel(
            "Word error rate",
            "As measured before release, by corpus.",
            Kind.BARS,
            Unit.RATIO,
            (Query(f"sum by (model, corpus) (deepthin_model_wer_ratio{{{HOSTED}}})", "{{model}} ({{corpus}})"),),
        ),
        Panel(
            "Word error rate minus the parent's",
            "What the compression cost in accuracy; below zero it gained.",
            Kind.BARS,
            Unit.RATIO,
            (Query(f"sum by (model, corpus) (deepthin_model_wer_delta_ratio{{{HOSTED}}})", "{{model}} ({{corpus}})"),),
        ),
        Panel(
            "Speed-up over the parent",
            "The parent's real-time factor by the model's, both of requests answered within the same minutes; all of "
            "the work, then the network alone, without decoding the file, front end and search for words.",
            Kind.BARS,
            Unit.TIMES,
            (
                Query(_speed_up(_RTF), "{{model}} (all)"),
                Query(_speed_up(_NETWORK), "{{model}} (network)"),
            ),
        ),
        Panel(
            "p95 of transcriptions",
            "From acceptance to text, waiting included.",
            Kind.LINES,
            Unit.SECONDS,
            (Query(quantile(0.95, "deepthin_transcription_duration_seconds", by="model", where=HOSTED), BY_MODEL),),
        ),
        Panel(
            "Real-time factor",
            "Seconds of work by second of audio, waiting not counted.",
            Kind.LINES,
            Unit.NUMBER,
            (Query(mean("deepthin_real_time_factor_ratio", "model", HOSTED), BY_MODEL),),
            log=True,
        ),
        Panel(
            "Network alone",
            "Mean seconds of the stage infer: the network on a whole batch, without decoder and front end.",
            Kind.LINES,
            Unit.SECONDS,
            (
                Query(
                    mean("deepthin_stage_duration_seconds", "model", f'stage="infer", {HOSTED}'),
                    BY_MODEL,
                ),
            ),
            log=True,
        ),
        Panel(
            "Audio transcribed",
            "Seconds of audio each second, by model.",
            Kind.LINES,
            Unit.NUMBER,
            (Query(f"sum by (model) (rate(deepthin_audio_seconds_total{{{HOSTED}}}[{RATE}]))", BY_MODEL),),
            stacked=True,
        ),
        Panel(
            "Recordings in a batch",
            "Mean size of batches.",
            Kind.LINES,
            Unit.NUMBER,
            (Query(mean("deepthin_batch_size", "model", HOSTED), BY_MODEL),),
        ),
        Panel(
            "Parity error",
            "Difference of the worst operator from its definition on this machine, by the spread of its values. "
            "Rounding explains a thousandth at most.",
            Kind.BARS,
            Unit.SCIENTIFIC,
            (Query(f"max by (model) (deepthin_model_parity_error_ratio{{{HOSTED}}})", BY_MODEL),),
            red=1e-3,
        ),
    ),
)
