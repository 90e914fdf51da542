"""Runs as one HTML page: records and traces in, text out. The page needs no network, and its policy forbids it."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import yaml

from .cards import CALLS, Picture, ShownRun, cards, colour, swatch
from .curves import Line, chart
from .markup import definitions, stat, table, text
from .summary import curve, distinct, short, spread

__all__ = ["Picture", "ShownRun", "document", "page"]

MEASURES = (
    ("Reward", ("reward_start", "reward")),
    ("Drift S₀ − S", ("drift",)),
    ("Score difference", ("score_difference",)),
    ("ELBO drift", ("elbo",)),
    ("CLIPScore", ("clip_start", "clip")),
    ("Seconds a job", ("seconds",)),
)
CURVES = (
    ("reward", "Reward", "higher is better"),
    ("drift", "Drift S₀ − S", "the surrogate of eq. 4"),
    ("score_difference", "Score difference", "to the first trajectory"),
    ("elbo", "ELBO drift", "rise of the frozen model's own loss"),
    ("clip", "CLIPScore", "does it still show the prompt"),
    ("noise_norm", "Noise norm", "all noises of a job together"),
    ("grad_norm", "Gradient norm", "of a job, before clipping"),
)
UNINTERESTING = ("trainer", "out", "overwrite", "wandb")
ORDERS = (
    ("", "in the order of the run"),
    ("gain 1", "largest gain first"),
    ("gain -1", "smallest gain first"),
    ("drift 1", "largest drift first"),
)


def page(runs: Sequence[ShownRun]) -> str:
    """The whole page. Several runs are compared: one colour each, their results grouped by prompt-seed."""
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs compared"
    body = (
        f'<header><p class="eyebrow">mira_pl</p><h1><bdi>{text(title)}</bdi></h1>{facts(runs)}</header>'
        f"<main>{summary(runs)}{differences(runs)}{charts(runs)}{jobs(runs)}{configurations(runs)}</main>"
        '<dialog id="zoom" aria-label="Enlarged pictures"></dialog>'
    )
    return document(title, body, asset("page.js"))


def document(title: str, body: str, script: str = "") -> str:
    """A whole page around its body, which is HTML already: nothing is loaded, and only this script may run."""
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = f"; script-src 'sha256-{allowed}'" if script else ""
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'{scripts}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{text(title)} · mira_pl</title><style>{asset('page.css')}</style></head>\n"
        f"<body>{body}{f'<script>{script}</script>' if script else ''}</body></html>\n"
    )


def asset(name: str) -> str:
    """A file that stands beside this one."""
    return (files("mira_pl.experiments") / name).read_text(encoding="utf-8")


def facts(runs: Sequence[ShownRun]) -> str:
    """What each run was: method, reward, jobs, configuration, versions."""
    rows = [
        (
            named(run, index),
            listed(run, "method"),
            listed(run, "reward_name"),
            f'<span class="{colour(index)}">{progress(run)}</span>',
            f"<code>{listed(run, 'config_hash')}</code>",
            versions(run),
        )
        for index, run in enumerate(runs)
    ]
    return table(f"facts {amount(runs)}", ("Run", "Method", "Reward", "Jobs", "Configuration", "Versions"), rows)


def named(run: ShownRun, index: int) -> str:
    """A run's name beside its colour."""
    return f"{swatch(index)}<bdi>{text(run.name)}</bdi>"


def amount(runs: Sequence[ShownRun]) -> str:
    """The class of everything that looks different when runs are compared."""
    return "single" if len(runs) == 1 else "several"


def listed(run: ShownRun, field: str) -> str:
    """The values of a field, without doubles."""
    return ", ".join(text(value) for value in distinct(record.get(field) for record in run.records))


def versions(run: ShownRun) -> str:
    """Every library with its version, or versions where a run was continued under another."""
    held = [record.get("versions") or {} for record in run.records]
    names = distinct(name for record in held for name in record)
    shown = (f"{text(name)} {text(', '.join(map(str, distinct(one.get(name) for one in held))))}" for name in names)
    return f"<small>{' · '.join(shown)}</small>"


def progress(run: ShownRun) -> str:
    """How many jobs are done, of how many."""
    done = len(run.records)
    if run.jobs is None or run.jobs <= done:
        return f"{done:,}"
    return f'{done:,} of {run.jobs:,} <progress value="{done}" max="{run.jobs}"></progress>'


def summary(runs: Sequence[ShownRun]) -> str:
    """One row a run: means over its jobs, with least and greatest."""
    records = [record for run in runs for record in run.records]
    present = [(title, names) for title, names in MEASURES if any(r.get(names[-1]) is not None for r in records)]
    rows = [
        (named(run, index), *(cell(run, names) for _, names in present), calls(run)) for index, run in enumerate(runs)
    ]
    heads = ("Run", *(title for title, _ in present), "Calls a job")
    note = "Mean over the jobs, least … greatest below."
    if len(distinct(record.get("reward_name") for record in records)) > 1:
        note += " The rewards differ: their values share no scale."
    shown = table(f"summary {amount(runs)}", heads, rows)
    return f'<section><h2>Summary</h2><p class="note">{note}</p>{shown}</section>'


def cell(run: ShownRun, names: Sequence[str]) -> str:
    """A spread, or two with an arrow between them."""
    found = [spread(record.get(name) for record in run.records) for name in names]
    shown = '<span class="to">→</span>'.join(stat(one) if one is not None else "–" for one in found)
    return f'<div class="{"change-of" if len(names) > 1 else "level"}">{shown}</div>'


def calls(run: ShownRun) -> str:
    """The four counts by which methods are compared."""
    rows = []
    for title, name in CALLS:
        found = spread((record.get("compute") or {}).get(name) for record in run.records)
        rows.append((title, "–" if found is None else stat(found)))
    return definitions(rows, "calls")


def differences(runs: Sequence[ShownRun]) -> str:
    """The settings in which the compared runs differ, trainer and folder left out."""
    flat = [flatten({name: part for name, part in run.config.items() if name not in UNINTERESTING}) for run in runs]
    names = distinct(name for settings in flat for name in settings)
    rows = [
        (f"<code>{text(name)}</code>", *(f"<code>{text(str(one.get(name, '–'))[:300])}</code>" for one in flat))
        for name in names
        if len({str(settings.get(name)) for settings in flat}) > 1
    ]
    if not rows:
        return ""
    heads = ("Setting", *(named(run, index) for index, run in enumerate(runs)))
    return f"<section><h2>What differs</h2>{table('differences', heads, rows, labels=False)}</section>"


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def charts(runs: Sequence[ShownRun]) -> str:
    """Mean curves over the iterations, one chart a measure, one line a run."""
    figures = []
    for column, title, note in CURVES:
        lines = [Line(run.name, colour(index), curve(run.trace, column)) for index, run in enumerate(runs)]
        lines = [line for line in lines if line.points]
        if lines:
            caption = f'<b>{title}</b> <span class="note">{note}</span>'
            numbers = f'<span class="ends">{"".join(map(ends, lines))}</span>'
            drawn = chart(lines, f"{title} over the iterations")
            figures.append(f"<figure><figcaption>{caption}{numbers}</figcaption>{drawn}</figure>")
    if not figures:
        return ""
    note = "Line: mean over the jobs. Band: least to greatest. A job that stopped early keeps its last value."
    names = "".join(f"<span>{named(run, index)}</span>" for index, run in enumerate(runs))
    legend = f'<p class="ends">{names}</p>' if len(runs) > 1 else ""
    shown = f'{legend}<div class="charts {amount(runs)}">{"".join(figures)}</div>'
    return f'<section><h2>Over the iterations</h2><p class="note">{note}</p>{shown}</section>'


def ends(line: Line) -> str:
    """Where a curve starts and ends."""
    first, last = (short(line.points[place].spread.mean) for place in (0, -1))
    return f'<span><i class="swatch {line.colour}"></i>{first} → {last}</span>'


def jobs(runs: Sequence[ShownRun]) -> str:
    """The cards, with a box to filter and a list to order them."""
    options = "".join(f'<option value="{value}">{title}</option>' for value, title in ORDERS)
    count = len({record["key"] for run in runs for record in run.records})
    return (
        f'<section><h2>Jobs <span id="count" class="count">{count}</span></h2><div id="tools" hidden>'
        '<input id="filter" type="search" placeholder="Filter by prompt, seed, status" aria-label="Filter the jobs">'
        f'<select id="order" aria-label="Order of the jobs">{options}</select></div>'
        f'<div id="jobs" class="{amount(runs)}">{cards(runs)}</div></section>'
    )


def configurations(runs: Sequence[ShownRun]) -> str:
    """The resolved configurations, folded."""
    parts = []
    for index, run in enumerate(runs):
        content = yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True)
        name = named(run, index) if len(runs) > 1 else "config.yaml"
        parts.append(f"<details><summary>{name}</summary><pre>{text(content)}</pre></details>")
    return f'<section class="configurations"><h2>Resolved configuration</h2>{"".join(parts)}</section>'
