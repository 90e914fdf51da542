"""Rows as a table and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ITERATIONS = 50  # K of the paper, section 5


@dataclass(frozen=True)
class Row:
    """One contender of one group; None where nothing was measured.

    Attributes:
        name: of the group: model, T and prompts at once.
        contender: see `contenders.NAMES`.
        steps: T.
        prompts: that its iteration brings forward.
        seconds_per_iteration: of one image: the median of whole iterations, divided by `prompts`.
        peak_bytes: see `measure.peak_bytes`.
        first_seconds: from an empty card to the end of the first iteration: weights, choice of kernels, compilation.
        images_per_hour: at K = 50 iterations an image.
        mfu: needed FLOPs over those that the measured matrix product would have done meanwhile.
        hfu: the same with what is computed twice and with previews.
        ratio_to_ours: of `seconds_per_iteration`.
        note: why nothing was measured.
    """

    name: str
    contender: str
    steps: int
    prompts: int
    seconds_per_iteration: float | None = None
    peak_bytes: int | None = None
    images_per_hour: float | None = None
    mfu: float | None = None
    hfu: float | None = None
    ratio_to_ours: float | None = None
    first_seconds: float | None = None
    note: str = ""


def compared(rows: Sequence[Row]) -> list[Row]:
    """With the ratios to `ours` of the same group, where it ran."""
    base = {row.name: row.seconds_per_iteration for row in rows if row.contender == "ours"}
    return [replace(row, ratio_to_ours=_ratio(row.seconds_per_iteration, base.get(row.name))) for row in rows]


def linearity(rows: Sequence[Row]) -> tuple[float, float] | None:
    """Seconds a step and beside the steps, by least squares of rows over T; None below two different T."""
    points = [(row.steps, row.seconds_per_iteration) for row in rows if row.seconds_per_iteration is not None]
    if len({t for t, _ in points}) < 2:
        return None
    mean_t, mean_s = (sum(values) / len(points) for values in zip(*points, strict=True))
    slope = sum((t - mean_t) * (s - mean_s) for t, s in points) / sum((t - mean_t) ** 2 for t, _ in points)
    return slope, mean_s - slope * mean_t


def print_rows(rows: Sequence[Row]) -> None:
    """The table."""
    table = Table(
        "group",
        "contender",
        "s an image and iteration",
        "images / h",
        "peak GB",
        "MFU %",
        "HFU %",
        "ratio to ours",
        "first s",
    )
    for row in rows:
        numbers = [
            shown(row.seconds_per_iteration, ".4f"),
            shown(row.images_per_hour, ".1f"),
            shown(row.peak_bytes, ".2f", 1e-9),
            shown(row.mfu, ".1f", 100),
            shown(row.hfu, ".1f", 100),
            shown(row.ratio_to_ours, ".2f"),
            shown(row.first_seconds, ".1f"),
        ]
        table.add_row(row.name, row.contender, row.note or numbers[0], *numbers[1:])
    Console(width=130).print(table)


def shown(value: float | None, form: str, factor: float = 1.0) -> str:
    """A number, or a dash."""
    return "-" if value is None else format(value * factor, form)


def write(file: Path, content: dict[str, Any], rows: Sequence[Any]) -> None:
    """One object with the rows in it."""
    file.write_text(json.dumps(content | {"rows": [asdict(row) for row in rows]}, indent=1) + "\n")


def _ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value / base
