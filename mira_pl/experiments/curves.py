"""Curves as inline SVG: text in, text out, colours left to the style sheet (class `run-0`, `run-1`, ...)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .markup import text
from .summary import Point, short

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 10, 22
SPARK = (150, 36)
HOVER_SLOTS = 150


@dataclass(frozen=True)
class Line:
    """One run's curve. `colour` is the class of the run."""

    name: str
    colour: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Frame:
    """Data coordinates to picture coordinates."""

    x0: float
    x1: float
    y0: float
    y1: float
    left: float
    right: float
    top: float
    bottom: float

    @staticmethod
    def around(points: Iterable[tuple[float, float]], left: float, right: float, top: float, bottom: float) -> "Frame":
        """The smallest frame that holds the points; a flat curve runs through its middle."""
        xs, ys = zip(*points, strict=True)
        x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
        margin = 0.05 * (y1 - y0) or 0.1 * abs(y0) or 1.0
        return Frame(x0, x1 if x1 > x0 else x0 + 1, y0 - margin, y1 + margin, left, right, top, bottom)

    def x(self, value: float) -> float:
        return self.left + (value - self.x0) / (self.x1 - self.x0) * (self.right - self.left)

    def y(self, value: float) -> float:
        return self.bottom - (value - self.y0) / (self.y1 - self.y0) * (self.bottom - self.top)

    def path(self, points: Iterable[tuple[float, float]]) -> str:
        """`x,y x,y ...` as SVG wants it."""
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers between two bounds, at a distance of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if raw <= power * factor * 1.0001)
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def chart(lines: Sequence[Line], label: str) -> str:
    """Mean curves with their bands, axes, and the numbers of an iteration under the pointer."""
    points = [(p.iteration, y) for line in lines for p in line.points for y in (p.spread.low, p.spread.high)]
    frame = Frame.around(points, LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM)
    body = _axes(frame) + "".join(_band(line, frame) for line in lines)
    body += "".join(_mean(line, frame) for line in lines) + _hover(lines, frame)
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(label)}">{body}</svg>'


def spark(values: Sequence[tuple[int, float]], label: str) -> str:
    """A small curve without axes: shape, and a dot at its end."""
    width, height = SPARK
    frame = Frame.around(values, 3, width - 4, 4, height - 4)
    zero, (x, y) = "", values[-1]
    if frame.y0 < 0 < frame.y1:
        zero = f'<line class="zero" x1="0" x2="{width}" y1="{frame.y(0):.1f}" y2="{frame.y(0):.1f}"/>'
    return (
        f'<svg class="spark" viewBox="0 0 {width} {height}" role="img" aria-label="{text(label)}">{zero}'
        f'<polyline class="mean" points="{frame.path(values)}"/>'
        f'<circle class="end" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="2.5"/></svg>'
    )


def _axes(frame: Frame) -> str:
    parts = []
    for value in ticks(frame.y0, frame.y1, 4):
        y, kind = frame.y(value), "zero" if value == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_tick(value, LEFT - 6, y + 3.5, "end"))
    for value in ticks(frame.x0, frame.x1, 5):
        if value == int(value):
            parts.append(_tick(value, frame.x(value), HEIGHT - 5, "middle"))
    return "".join(parts)


def _tick(value: float, x: float, y: float, anchor: str) -> str:
    label = f"{value:.6g}".replace("-", "−")
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{label}</text>'


def _band(line: Line, frame: Frame) -> str:
    upper = [(p.iteration, p.spread.high) for p in line.points]
    lower = [(p.iteration, p.spread.low) for p in reversed(line.points)]
    return f'<polygon class="band {line.colour}" points="{frame.path(upper + lower)}"/>'


def _mean(line: Line, frame: Frame) -> str:
    means = [(p.iteration, p.spread.mean) for p in line.points]
    x, y = means[-1]
    return (
        f'<g class="{line.colour}"><polyline class="mean" points="{frame.path(means)}"/>'
        f'<circle class="end" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3"/></g>'
    )


def _hover(lines: Sequence[Line], frame: Frame) -> str:
    """One invisible column an iteration; the browser shows its <title>."""
    found: dict[int, list[str]] = {}
    for line in lines:
        for p in line.points:
            numbers = f"{short(p.spread.mean)}  ({short(p.spread.low)} … {short(p.spread.high)})"
            found.setdefault(p.iteration, [f"iteration {p.iteration}"]).append(f"{line.name}: {numbers}")
    iterations = sorted(found)
    iterations = iterations[:: math.ceil(len(iterations) / HOVER_SLOTS)]
    width, height = (frame.right - frame.left) / max(1, len(iterations) - 1), frame.bottom - frame.top
    parts = []
    for k in iterations:
        x, title = frame.x(k), text("\n".join(found[k]))
        parts.append(
            f'<g class="at"><rect x="{x - width / 2:.1f}" y="{TOP}" width="{width:.1f}" height="{height:.1f}"/>'
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{frame.bottom}"/><title>{title}</title></g>'
        )
    return "".join(parts)
