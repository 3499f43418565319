"""A row of ``deepthin bench kernels``, and the names of what it compares with."""

from dataclasses import dataclass

import onnxruntime as ort

from ops.benchmarks.timing import Comparison

SIZES = (0.0195, 0.0129, 0.0099, 0.0057, 0.0040, 0.0027, 0.0020, 0.0014)
"""The relative sizes of the paper's tables."""

FP32, INT8, INT4 = (
    f"onnxruntime {ort.__version__} {name}"
    for name in ("MatMul fp32", "DynamicQuantizeMatMul int8", "MatMulNBits int4, accuracy_level 4")
)
LOW_RANK, CSR, HALF, EIGHT = "low-rank pair", "CsrMatMul", "float16 factors", "int8 Xf, float16 Wf"
ROOFLINE, PEAK = "roofline", "multiply-add peak, direct correlation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Comparison):
    """One comparison.

    Attributes:
        size: Relative size wished; the geometry is the nearest one not above it.
        r, n: Rank and row length of the geometry.
        cache: ``warm`` or ``cold`` calls of a session, or the ``kernel`` alone.
        path: How DeepThinMatMul computed it: ``direct`` or ``fft``, ``rows`` or ``lanes``.
        gflops: 1e9 multiplications and additions really done, in a second.
        peak_gflops: The most that the threads' cores could do, measured in the same run.
        constant_bytes: Bytes of constants that a product reads.
        read_gb_s: 1e9 bytes in a second that one core reads of an array of as many bytes.
    """

    size: float
    r: int
    n: int
    cache: str
    path: str
    gflops: float
    peak_gflops: float
    constant_bytes: float
    read_gb_s: float
