"""A study in pictures: its front, its curves, what mattered. Points carry links where there is something to open."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .check import ReportSet
from .results import SHOWN, Interval, Row
from .space import Parameter

LABELS = {"reward": "reward", "drift": "drift |S₀ - S|", "clip": "CLIPScore"}
WRITTEN = 12
"""Values that an axis has room to write."""
GREY = "#8a8f98"


def front(rows: Sequence[Row], links: Mapping[int, str]) -> Figure:
    """Reward against drift, CLIPScore as colour; a ring for what is on the front, a cross for what is not feasible.

    Args:
        rows: complete trials.
        links: slot -> what a point leads to.
    """
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    shown = [row for row in rows if {"reward", "drift"} <= set(row.intervals)]
    for feasible, marker in ((True, "o"), (False, "x")):
        part = [row for row in shown if row.feasible is feasible]
        if not part:
            continue
        clip = [row.intervals["clip"][0] if "clip" in row.intervals else math.nan for row in part]
        low, high = span([row.intervals["clip"][0] for row in shown if "clip" in row.intervals])
        points = axes.scatter(
            [row.intervals["drift"][0] for row in part], [row.intervals["reward"][0] for row in part],
            c=clip, vmin=low, vmax=high, marker=marker, s=42, plotnonfinite=True, zorder=3,
        )  # fmt: skip
        points.set_urls([links.get(row.slot) for row in part])
        if feasible:
            figure.colorbar(points, label=LABELS["clip"])
    best = sorted((row.intervals["drift"][0], row.intervals["reward"][0]) for row in shown if row.best)
    if best:
        axes.plot(*zip(*best, strict=True), "o", mfc="none", ms=12, color=GREY, label="not beaten", zorder=2)
        axes.legend()
    axes.set_xlabel(f"{LABELS['drift']}, mean over jobs")
    axes.set_ylabel("reward, mean over jobs")
    return figure


def span(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Least and greatest."""
    return (min(values), max(values)) if values else (None, None)


def curves(rows: Sequence[Row], parameter: Parameter, links: Mapping[int, str], reports: Sequence[ReportSet]) -> Figure:
    """Reward, drift and CLIPScore over a parameter, with 95 % intervals over prompts; diamonds: on the report sets.

    Each is drawn where it is measured as on the selection: two rewards have no common axis.
    """
    figure = Figure(figsize=(10.5, 3.2), layout="constrained")
    shown = [row for row in rows if isinstance(row.params.get(parameter.name), int | float)]
    shown = sorted(shown, key=lambda row: row.params[parameter.name])
    for axes, measure in zip(figure.subplots(1, 3), SHOWN, strict=True):
        draw(axes, shown, parameter, [row.intervals.get(measure) for row in shown], Look("selection", "C0", "o"), links)
        for index, one in enumerate(reports):
            if measure in one.comparable:
                found = [row.held_out.get(one.name, {}).get(measure) for row in shown]
                draw(axes, shown, parameter, found, Look(f"{one.name}: {one.reward}", f"C{index + 1}", "D"), links)
        if measure == "drift" and len(reports) > 1:  # which every set measures alike
            axes.legend(fontsize="x-small")
        axes.set_xlabel(parameter.name)
        axes.set_title(LABELS[measure])
        scale(axes, parameter, [row.params[parameter.name] for row in shown])
    return figure


def scale(axes: Axes, parameter: Parameter, values: Sequence[float]) -> None:
    """An axis on which values that are far apart have room each; a short list of them is written out."""
    if not parameter.log and not spread_out(values):
        return
    axes.set_xscale("symlog", linthresh=smallest(values))
    if parameter.values and len(set(values)) <= WRITTEN:
        axes.set_xticks(sorted(set(values)), [f"{value:g}" for value in sorted(set(values))], fontsize="small")
        axes.minorticks_off()


@dataclass(frozen=True)
class Look:
    """How a series of points is drawn."""

    label: str
    colour: str
    marker: str


def draw(
    axes: Axes, rows: Sequence[Row], parameter: Parameter, found: Sequence[Interval | None], look: Look,
    links: Mapping[int, str],
) -> None:  # fmt: skip
    """One measure of the rows, None where it is missing; selected values that were given, not sampled, are joined."""
    points = [(row, interval) for row, interval in zip(rows, found, strict=True) if interval is not None]
    if not points:
        return
    x = [row.params[parameter.name] for row, _ in points]
    mean = [interval[0] for _, interval in points]
    below = [max(0.0, interval[0] - interval[1]) for _, interval in points]
    above = [max(0.0, interval[2] - interval[0]) for _, interval in points]
    line = "-" if parameter.values and look.marker == "o" else "none"
    axes.errorbar(x, mean, (below, above), ls=line, lw=1, capsize=2, color=look.colour, alpha=0.7)
    dots = axes.scatter(x, mean, marker=look.marker, s=26, color=look.colour, zorder=3, label=look.label)
    dots.set_urls([links.get(row.slot) for row, _ in points])


def spread_out(values: Sequence[float]) -> bool:
    """Whether positive values cover more than a factor of 20."""
    positive = [value for value in values if value > 0]
    return len(positive) > 1 and max(positive) > 20 * min(positive)


def smallest(values: Sequence[float]) -> float:
    """The least positive value: below it the axis is linear, so that 0 has a place."""
    return min((value for value in values if value > 0), default=1.0)


def importance(study: optuna.Study, objectives: Mapping[str, str]) -> Figure | None:
    """How much of each objective a parameter explains, by PED-ANOVA; None where it cannot be said."""
    found = {}
    for index, (name, way) in enumerate(objectives.items()):
        sign = -1 if way == "maximize" else 1  # PED-ANOVA asks what makes low values
        try:
            found[name] = optuna.importance.get_param_importances(
                study, target=lambda t, i=index, s=sign: s * t.values[i]
            )
        except (ValueError, RuntimeError):  # too few trials, or all of one value
            continue
    found = {name: values for name, values in found.items() if values and all(map(math.isfinite, values.values()))}
    if not found:
        return None
    figure = Figure(figsize=(7, 0.8 + 0.35 * max(map(len, found.values()))), layout="constrained")
    axes = figure.subplots()
    names = list(next(iter(found.values())))
    for place, (objective, values) in enumerate(found.items()):
        height = 0.8 / len(found)
        offsets = [index + (place - (len(found) - 1) / 2) * height for index in range(len(names))]
        axes.barh(offsets, [values.get(name, 0.0) for name in names], height, label=objective)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("importance (PED-ANOVA)")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def svg(figure: Figure) -> str:
    """To be put into a page."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mira_pl"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    found = re.search(r"<svg.*</svg>", buffer.getvalue(), re.S)
    assert found is not None
    return re.sub(r"<metadata>.*?</metadata>", "", found[0], flags=re.S)


def swept(parameters: Sequence[Parameter]) -> list[Parameter]:
    """Those that have an axis: ranges and lists of numbers."""
    return [p for p in parameters if all(isinstance(v, int | float) and not isinstance(v, bool) for v in p.values)]
