"""Spreads over jobs and mean curves over iterations."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """Mean, least and greatest of some numbers."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """A spread over the jobs of a run, in one iteration."""

    iteration: int
    spread: Spread


def number(value: Any) -> float:
    """A number of a record or a trace; NaN for null, for an empty cell, and for what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def spread(values: Iterable[Any]) -> Spread | None:
    """Of the finite numbers among the values; None where there are none."""
    finite = [x for x in map(number, values) if math.isfinite(x)]
    return Spread(math.fsum(finite) / len(finite), min(finite), max(finite)) if finite else None


def by_job(trace: Iterable[Mapping[str, Any]], column: str) -> dict[str, dict[int, float]]:
    """One trace column as key -> iteration -> number."""
    jobs: dict[str, dict[int, float]] = {}
    for row in trace:
        jobs.setdefault(row["key"], {})[int(row["iteration"])] = number(row.get(column))
    return jobs


def curve(trace: Iterable[Mapping[str, Any]], column: str) -> list[Point]:
    """The spread over jobs in every iteration; a job that stopped early keeps its last value, so that no mean jumps."""
    jobs = list(by_job(trace, column).values())
    ends = [max(job) for job in jobs]
    lasts = [_last_finite(job) for job in jobs]
    points = []
    for k in sorted({k for job in jobs for k, value in job.items() if math.isfinite(value)}):
        values = (last if k > end else job.get(k) for job, end, last in zip(jobs, ends, lasts, strict=True))
        found = spread(values)
        if found is not None:
            points.append(Point(k, found))
    return points


def short(value: float, sign: str = "") -> str:
    """Three digits or so: 0.0834, −1.25, 143.2, 5,100, 2.1e−05. `sign`: "+" to show it always."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size < 1e6 and (value == int(value) or size >= 1e3):
        text = f"{value + 0.0:{sign},.0f}"
    elif size < 1e-3 or size >= 1e6:
        text = f"{value:{sign}.1e}"
    else:
        text = f"{value:{sign}.{min(4, max(1, 2 - math.floor(math.log10(size))))}f}"
    return text.replace("-", "−")


def _last_finite(job: Mapping[int, float]) -> float:
    return next((job[k] for k in sorted(job, reverse=True) if math.isfinite(job[k])), math.nan)


def distinct(values: Iterable[Any]) -> Sequence[Any]:
    """The values without doubles and nulls, in order of appearance."""
    return list(dict.fromkeys(value for value in values if value is not None))
