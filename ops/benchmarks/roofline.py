"""A roofline as SVG: what arithmetic and memory allow at most, and what was reached."""

from collections.abc import Iterable, Sequence
from math import log10

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 420, 64, 48, 24
_COLOURS = {"direct": "#c2571a", "fft": "#1f6fb2"}
_RADII = {"1": 3.0, "16": 4.5, "64": 6.0}


def roofline(peak: float, bandwidths: Sequence[float], points: Iterable[tuple[float, float, str, str]]) -> str:
    """The drawing.

    Args:
        peak: 1e9 multiplications and additions in a second, at most.
        bandwidths: 1e9 bytes in a second of each memory.
        points: Of each product multiplications and additions by byte of constants, 1e9 of them in a second, its way
            and its batch.

    Returns:
        The text of an SVG file.
    """
    points = list(points)
    least_x, most_x = 0.1, 10 ** _above(max([x for x, *_ in points], default=1.0))
    least_y, most_y = 1.0, 10 ** _above(peak)

    def across(x: float) -> float:
        return LEFT + (WIDTH - LEFT - 16) * log10(max(x, least_x) / least_x) / log10(most_x / least_x)

    def up(y: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * log10(max(y, least_y) / least_y) / log10(most_y / least_y)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for power in range(round(log10(least_x)), round(log10(most_x)) + 1):
        x = across(10.0**power)
        parts.append(_line(x, up(least_y), x, up(most_y), "#ddd"))
        parts.append(_text(x, HEIGHT - BOTTOM + 18, f"{10.0**power:g}", "middle"))
    for power in range(round(log10(least_y)), round(log10(most_y)) + 1):
        y = up(10.0**power)
        parts.append(_line(across(least_x), y, across(most_x), y, "#ddd"))
        parts.append(_text(LEFT - 8, y + 4, f"{10.0**power:g}", "end"))
    for bandwidth in bandwidths:
        knee = peak / bandwidth
        parts.append(_line(across(least_x), up(bandwidth * least_x), across(knee), up(peak), "#777"))
        parts.append(_text(across(least_x) + 6, up(bandwidth * least_x) - 6, f"{bandwidth:.0f} GB/s", "start"))
    parts.append(_line(across(peak / max(bandwidths, default=peak)), up(peak), across(most_x), up(peak), "#777"))
    parts.append(_text(across(most_x), up(peak) - 6, f"{peak:.0f} GFLOP/s: all multiply-adds", "end"))
    for x, y, way, batch in points:
        radius, colour = _RADII.get(batch, 4.0), _COLOURS.get(way, "#333")
        place = f'cx="{across(x):.1f}" cy="{up(y):.1f}" r="{radius}"'
        parts.append(f'<circle {place} fill="{colour}" fill-opacity="0.6"/>')
    for number, (way, colour) in enumerate(_COLOURS.items()):
        y = HEIGHT - BOTTOM - 30 + 18 * number
        parts.append(f'<circle cx="{WIDTH - 190}" cy="{y - 4}" r="5" fill="{colour}"/>')
        parts.append(_text(WIDTH - 180, y, f"{way} correlation", "start"))
    parts.append(
        _text(WIDTH / 2, HEIGHT - 10, "arithmetic by byte of constants; larger dots: larger batches", "middle")
    )
    parts.append(_text(LEFT, TOP - 8, "GFLOP/s really done", "start"))
    return "\n".join([*parts, "</svg>", ""])


def _above(value: float) -> int:
    return int(log10(value)) + 1


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
