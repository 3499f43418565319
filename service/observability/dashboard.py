"""The dashboard "DeepThin": what a person wants to know first, then method against method, jobs and memory."""

from __future__ import annotations

from typing import Final

from service.observability.methods import METHODS
from service.observability.panels import RATE, Dashboard, Kind, Panel, Query, Row, Unit
from service.observability.queries import BY_MODEL, HOSTED, mean, quantile

LATENCY_BUDGET_SECONDS: Final = 2.5
"""What the 99th percentile of transcriptions is held against, here and by the alert; a bound of the histogram."""

_PROBES = 'route!~"/metrics|/livez|/readyz"'

_OVERVIEW = Row(
    "Overview",
    (
        Panel(
            "Ready",
            "Whether the default model can answer, as /readyz says.",
            Kind.NUMBER,
            Unit.READY,
            (Query("min(deepthin_ready)", "ready"),),
            width=4,
            height=4,
        ),
        Panel(
            "Requests",
            "HTTP requests answered each second; probes and scrapes left out.",
            Kind.NUMBER,
            Unit.PER_SECOND,
            (Query(f"sum(rate(deepthin_requests_total{{{_PROBES}}}[{RATE}]))", "requests"),),
            width=4,
            height=4,
        ),
        Panel(
            "Errors and refusals",
            "Share of requests answered with a status of 500 or above; 503 is a refusal under load.",
            Kind.NUMBER,
            Unit.RATIO,
            (
                Query(
                    f'(sum(rate(deepthin_requests_total{{{_PROBES}, status=~"5.."}}[{RATE}])) or vector(0))'
                    f" / sum(rate(deepthin_requests_total{{{_PROBES}}}[{RATE}]))",
                    "5xx",
                ),
            ),
            width=4,
            height=4,
            red=0.01,
        ),
        Panel(
            "p99 of transcriptions",
            f"From acceptance to text, waiting included. The budget is {LATENCY_BUDGET_SECONDS} s.",
            Kind.NUMBER,
            Unit.SECONDS,
            (Query(quantile(0.99, "deepthin_transcription_duration_seconds"), "p99"),),
            width=4,
            height=4,
            red=LATENCY_BUDGET_SECONDS,
        ),
        Panel(
            "Real-time factor",
            "Seconds of work by second of audio, waiting not counted; below 1 is faster than speech.",
            Kind.NUMBER,
            Unit.NUMBER,
            (
                Query(
                    f"sum(rate(deepthin_real_time_factor_ratio_sum[{RATE}]))"
                    f" / sum(rate(deepthin_real_time_factor_ratio_count[{RATE}]))",
                    "factor",
                ),
            ),
            width=4,
            height=4,
            red=1.0,
        ),
        Panel(
            "Places taken",
            "Transcriptions that were accepted and have no answer yet, by the most there may be.",
            Kind.NUMBER,
            Unit.RATIO,
            (Query("sum(deepthin_queue_admitted) / sum(deepthin_queue_capacity)", "taken"),),
            width=4,
            height=4,
            red=0.9,
        ),
        Panel(
            "Requests by status",
            "Probes and scrapes left out.",
            Kind.LINES,
            Unit.PER_SECOND,
            (Query(f"sum by (status) (rate(deepthin_requests_total{{{_PROBES}}}[{RATE}]))", "{{status}}"),),
            stacked=True,
        ),
        Panel(
            "Latency of transcriptions",
            "From acceptance to text, waiting included.",
            Kind.LINES,
            Unit.SECONDS,
            tuple(
                Query(quantile(share, "deepthin_transcription_duration_seconds"), f"p{share * 100:g}")
                for share in (0.5, 0.95, 0.99)
            ),
            red=LATENCY_BUDGET_SECONDS,
        ),
        Panel(
            "Refused or given up",
            "By reason: places or backlog of audio full, shutting down, client gone, jobs or followers full.",
            Kind.LINES,
            Unit.PER_SECOND,
            (Query(f"sum by (reason) (rate(deepthin_requests_shed_total[{RATE}]))", "{{reason}}"),),
        ),
        Panel(
            "Queue",
            "Places taken, and recordings of them that wait for the network.",
            Kind.LINES,
            Unit.NUMBER,
            (
                Query("sum(deepthin_queue_admitted)", "accepted, no answer yet"),
                Query("sum(deepthin_queue_depth)", "waiting for the network"),
                Query("sum(deepthin_requests_in_progress)", "requests in progress"),
            ),
        ),
        Panel(
            "Expected wait",
            "Seconds that a recording that comes now is expected to wait, and from how many on recordings are refused.",
            Kind.LINES,
            Unit.SECONDS,
            (
                Query("max(deepthin_queue_wait_seconds)", "wait"),
                Query("max(deepthin_queue_wait_limit_seconds)", "limit"),
            ),
        ),
        Panel(
            "Where the time goes",
            "Mean seconds of a transcription in each stage; infer is the time of the whole batch.",
            Kind.LINES,
            Unit.SECONDS,
            (Query(mean("deepthin_stage_duration_seconds", "stage"), "{{stage}}"),),
            stacked=True,
        ),
    ),
)

_JOBS = Row(
    "Compression jobs",
    (
        Panel(
            "Jobs by state",
            "All jobs that are known, ended ones included.",
            Kind.LINES,
            Unit.NUMBER,
            (Query("sum by (state) (deepthin_jobs)", "{{state}}"),),
        ),
        Panel(
            "Duration by method and outcome",
            "Mean seconds from the start of a job to its end, over all that ended since the service started.",
            Kind.BARS,
            Unit.SECONDS,
            (
                Query(
                    "sum by (method, outcome) (deepthin_job_duration_seconds_sum)"
                    " / sum by (method, outcome) (deepthin_job_duration_seconds_count)",
                    "{{method}}: {{outcome}}",
                ),
            ),
        ),
        Panel(
            "Duration by stage",
            "Mean seconds in each stage, over all jobs that ended since the service started.",
            Kind.BARS,
            Unit.SECONDS,
            (
                Query(
                    "sum by (stage) (deepthin_job_stage_duration_seconds_sum)"
                    " / sum by (stage) (deepthin_job_stage_duration_seconds_count)",
                    "{{stage}}",
                ),
            ),
        ),
        Panel(
            "Wait of jobs",
            "Mean seconds from acceptance to start, over all jobs since the service started.",
            Kind.NUMBER,
            Unit.SECONDS,
            (
                Query(
                    "sum(deepthin_job_queue_seconds_sum) / sum(deepthin_job_queue_seconds_count)",
                    "wait",
                ),
            ),
            height=4,
        ),
        Panel(
            "Places for jobs taken",
            "Jobs that wait, by the most that may.",
            Kind.NUMBER,
            Unit.RATIO,
            (Query('sum(deepthin_jobs{state="queued"}) / sum(deepthin_jobs_queue_capacity)', "taken"),),
            height=4,
            red=0.9,
        ),
        Panel(
            "Workers started again",
            "Since the service started: killed, crashed, or the service itself was restarted.",
            Kind.NUMBER,
            Unit.NUMBER,
            (Query("sum by (cause) (deepthin_job_worker_restarts_total)", "{{cause}}"),),
            height=4,
        ),
    ),
)

_PROCESS = Row(
    "Process",
    (
        Panel(
            "Memory",
            "Resident memory of the service and of the worker of a job, and the bytes of all weights: what one can "
            "work out from shapes next to what the system counts.",
            Kind.LINES,
            Unit.BYTES,
            (
                Query("sum(deepthin_process_resident_memory_bytes)", "service"),
                Query("sum(deepthin_job_worker_resident_memory_bytes)", "worker of a job"),
                Query('sum(deepthin_model_weight_bytes{where="resident"})', "weights, from their shapes"),
                Query("sum(max by (graph) (deepthin_model_graph_bytes))", "decoding graphs, mapped"),
            ),
        ),
        Panel(
            "Processor",
            "Seconds of processor time each second: 1 is one core.",
            Kind.LINES,
            Unit.NUMBER,
            (Query(f"sum(rate(deepthin_process_cpu_seconds_total[{RATE}]))", "service"),),
        ),
        Panel(
            "Open files",
            "Connections included, and how many there may be.",
            Kind.LINES,
            Unit.NUMBER,
            (
                Query("sum(deepthin_process_open_fds)", "open"),
                Query("sum(deepthin_process_max_fds)", "limit"),
            ),
            log=True,
        ),
        Panel(
            "Loading time",
            "Seconds that each model took to load and to warm.",
            Kind.BARS,
            Unit.SECONDS,
            (Query(f"max by (model) (deepthin_model_load_seconds{{{HOSTED}}})", BY_MODEL),),
            width=12,
        ),
        Panel(
            "Running here",
            "Version of DeepThin, Python, ONNX Runtime, and the instruction set of the kernels.",
            Kind.NUMBER,
            Unit.NUMBER,
            (
                Query(
                    "sum by (version, python, onnxruntime, instruction_set) (deepthin_build_info)",
                    "DeepThin {{version}}, Python {{python}}, ONNX Runtime {{onnxruntime}}, {{instruction_set}}",
                ),
            ),
            width=12,
        ),
    ),
)

DASHBOARD: Final = Dashboard(
    "deepthin",
    "DeepThin",
    "Speech recognition with compressed models: traffic, method against method, compression jobs, memory.",
    (_OVERVIEW, METHODS, _JOBS, _PROCESS),
)
