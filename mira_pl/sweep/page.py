"""A study as one HTML page: its front, its curves, what mattered, and a table that leads to every run."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from matplotlib.figure import Figure

from ..experiments.markup import data, table, text
from ..experiments.page import document
from .check import ReportSet
from .command import trial_name
from .definition import Sweep
from .figures import LABELS, curves, front, importance, svg, swept
from .results import SHOWN, Interval, Row, rows
from .status import Rows

CAPTIONS = {
    "front": "Reward against drift. Colour: CLIPScore. Ring: no feasible trial is better in every objective. "
    "Cross: a constraint is violated. A click opens the run.",
    "importance": "How much of an objective each parameter explains.",
}
CURVE = "Means with 95 % intervals over prompts; diamonds: the report, which chose nothing, where it measures the same."


def figures(
    study: optuna.Study, sweep: Sweep, links: Mapping[int, str], reports: Sequence[ReportSet]
) -> dict[str, Figure]:
    """By the name of their file."""
    found = rows(study)
    pictures = {"front": front(found, links)}
    every = [*sweep.space.parameters, *(p for method in sweep.space.methods.values() for p in method.parameters)]
    for parameter in swept(every):
        if any(parameter.name in row.params for row in found):
            pictures[f"curve-{parameter.name.replace(':', '-')}"] = curves(found, parameter, links, reports)
    bars = importance(study, sweep.objectives)
    return pictures if bars is None else pictures | {"importance": bars}


def page(
    study: optuna.Study, sweep: Sweep, status: Rows, pictures: Mapping[str, Figure], links: Mapping[int, str],
    reports: Sequence[ReportSet],
) -> str:  # fmt: skip
    """The whole page.

    Args:
        study: with at least one complete trial.
        sweep: its file.
        status: how it stands.
        pictures: by name.
        links: slot -> page of the trial's run.
        reports: sets of the report.
    """
    drawn = "".join(
        f'<section><h2>{text(name)}</h2><p class="note">{CAPTIONS.get(name, CURVE)}</p>'
        f'<figure style="background:#fff;border-radius:12px;padding:12px">{svg(figure)}</figure></section>'
        for name, figure in pictures.items()
    )
    stands = table("facts several", ("", ""), [(text(name), text(value)) for name, value in status], labels=False)
    body = (
        f'<header><p class="eyebrow">mira_pl sweep</p><h1><bdi>{text(sweep.name)}</bdi></h1>{stands}</header>'
        f"<main>{drawn}{trials(rows(study), links, reports)}</main>"
    )
    return document(sweep.name, body)


def trials(found: Sequence[Row], links: Mapping[int, str], reports: Sequence[ReportSet]) -> str:
    """One row a complete trial, those that nothing beats first."""
    names = list(dict.fromkeys(name for row in found for name in row.params))
    heads = ("Trial", "Best", *(text(name) for name in names), *(LABELS[name] for name in SHOWN), "Held out", "Command")
    ordered = sorted(found, key=lambda row: (not row.best, row.slot))
    cells = [
        (
            named(row, links),
            "●" if row.best else ("" if row.feasible else "violates a constraint"),
            *(value(row.params.get(name)) for name in names),
            *(measured(row.intervals.get(name)) for name in SHOWN),
            "<br>".join(held_out(one, row) for one in reports if one.name in row.held_out),
            f"<details><summary>show</summary><code>{text(row.command)}</code></details>",
        )
        for row in ordered
    ]
    return f"<section><h2>Trials</h2>{table('trials', heads, cells, labels=False)}</section>"


def held_out(one: ReportSet, row: Row) -> str:
    """What a trial measured on a report set, and with which reward."""
    values = (f"{LABELS[name]} {measured(interval)}" for name, interval in row.held_out[one.name].items())
    return f"{text(one.name)}, {text(one.reward)}: {'<br>'.join(values)}"


def named(row: Row, links: Mapping[int, str]) -> str:
    """A trial's name, as a link where its run is here, with its contact sheet."""
    link = links.get(row.slot)
    if link is None:
        return trial_name(row.slot)
    sheet = f"{link.rsplit('/', 1)[0]}/contact.png"
    return f'<a href="{text(link)}">{trial_name(row.slot)}</a> <a href="{text(sheet)}">sheet</a>'


def value(given: Any) -> str:
    """A parameter's."""
    number = isinstance(given, int | float) and not isinstance(given, bool)
    return data(given) if number else ("" if given is None else text(given))


def measured(interval: Interval | None) -> str:
    """A mean with its interval."""
    if interval is None:
        return "–"
    return f"{data(interval[0])} <small>{data(interval[1])} … {data(interval[2])}</small>"
