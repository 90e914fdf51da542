"""One card a prompt-seed: its pictures and numbers, side by side for every run that solved it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .curves import spark
from .markup import change, data, definitions, long_text, text
from .summary import by_job, number, short, spread

Paths = Mapping[str, Mapping[int, float]]
"""Column -> iteration -> number: the trace of one job."""

SPARKS = ("reward", "drift", "score_difference", "clip")
MORE = (("S₀", "S0"), ("S", "S"), ("ELBO drift", "elbo"), ("Noise norm", "noise_norm"))
CALLS = (("U-Net", "unet"), ("VAE", "vae"), ("Reward", "reward"), ("Backward", "backward"))


@dataclass(frozen=True)
class Picture:
    """An image as data URI, with its size in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class ShownRun:
    """Everything of a run that a page shows. `pictures`: key -> `base`, `film` or nothing for the result -> picture."""

    name: str
    config: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    trace: Sequence[Mapping[str, Any]]
    pictures: Mapping[str, Mapping[str, Picture]]
    jobs: int | None = None


def colour(index: int) -> str:
    """The class of a run's colour: eight, then again."""
    return f"run-{index % 8}"


def swatch(index: int) -> str:
    """A dot in the run's colour."""
    return f'<i class="swatch {colour(index)}"></i>'


def cards(runs: Sequence[ShownRun]) -> str:
    """Every prompt-seed of any run, in the order of the runs."""
    held = [{record["key"]: record for record in run.records} for run in runs]
    traces = [{column: by_job(run.trace, column) for column in SPARKS} for run in runs]
    keys = dict.fromkeys(key for records in held for key in records)
    parts = []
    for key in keys:
        found = [records.get(key) for records in held]
        paths = [{column: jobs.get(key, {}) for column, jobs in trace.items()} for trace in traces]
        parts.append(card(runs, found, paths))
    return "".join(parts)


def card(
    runs: Sequence[ShownRun],
    found: Sequence[Mapping[str, Any] | None],
    paths: Sequence[Paths],
) -> str:
    """One prompt-seed: `found` and `paths` hold its record and its traces in every run."""
    records = [record for record in found if record is not None]
    given = records[0]["prompt"]
    prompt, whole = long_text(given if given.strip() else "(empty prompt)")
    sorting = {"gain": spread(map(gain, records)), "drift": spread(abs(number(r.get("drift"))) for r in records)}
    attributes = "".join(f' data-{name}="{one.high!r}"' for name, one in sorting.items() if one is not None)
    panes = "".join(
        pane(run, record, path, index, len(runs) > 1)
        for index, (run, record, path) in enumerate(zip(runs, found, paths, strict=True))
    )
    return (
        f'<article class="job"{attributes}><div><h3 class="find">{prompt}</h3>{whole}'
        f'<p class="meta find">seed {text(records[0]["seed"])}</p></div><div class="panes">{panes}</div></article>'
    )


def gain(record: Mapping[str, Any]) -> float:
    """How far the reward rose."""
    return number(record.get("reward")) - number(record.get("reward_start"))


def pane(run: ShownRun, record: Mapping[str, Any] | None, paths: Paths, index: int, compared: bool) -> str:
    """What one run made of a prompt-seed."""
    name = f'<h4>{swatch(index)}<bdi class="find">{text(run.name)}</bdi></h4>' if compared else ""
    if record is None:
        return f'<section class="pane {colour(index)}">{name}<p class="missing">not in this run</p></section>'
    return (
        f'<section class="pane {colour(index)}">{name}{pictures(run.pictures.get(record["key"], {}))}'
        f'<p class="headline"><span class="change">{change(record.get("reward_start"), record.get("reward"))}</span>'
        f"<span>{text(record['reward_name'])}</span>{status(str(record['status']))}</p>"
        f"{numbers(record, paths)}{more(record)}</section>"
    )


def pictures(held: Mapping[str, Picture]) -> str:
    """Start and result side by side over the filmstrip; a click enlarges them."""
    if not held:
        return '<p class="missing">its pictures are not in the run folder</p>'
    pair = "".join(
        f"<span>{image(held[kind], label) if kind in held else ''}<small>{label}</small></span>"
        for kind, label in (("base", "start"), ("", "result"))
    )
    film = f'<span class="film">{image(held["film"], "the way from start to result")}</span>' if "film" in held else ""
    return f'<button type="button" class="pictures" title="Enlarge"><span class="pair">{pair}</span>{film}</button>'


def image(picture: Picture, label: str) -> str:
    """An <img>; few pixels are drawn as such."""
    kind = ' class="pixels"' if picture.height <= 128 else ""
    return f'<img{kind} src="{text(picture.uri)}" width="{picture.width}" height="{picture.height}" alt="{label}">'


def status(value: str) -> str:
    """How the job ended, as a badge."""
    kind = "good" if value == "finished" else "bad" if value.startswith("failed") else "note"
    return f'<span class="status {kind} find">{text(value)}</span>'


def numbers(record: Mapping[str, Any], paths: Paths) -> str:
    """What one looks at first, each with its curve over the iterations."""
    rows = [("Reward gain", "reward", data(gain(record), "+"))]
    rows.append(("Drift S₀ − S", "drift", data(record.get("drift"))))
    rows.append(("Score difference", "score_difference", data(record.get("score_difference"))))
    if record.get("clip") is not None:
        rows.append(("CLIPScore", "clip", change(record.get("clip_start"), record["clip"])))
    shown = [(title, f"{curve_of(paths, column, title)}<span>{value}</span>") for title, column, value in rows]
    effort = f"{data(record.get('iterations'))} iterations in {data(record.get('seconds'))} s"
    return definitions(shown, "numbers") + f'<p class="meta">{effort}</p>'


def curve_of(paths: Paths, column: str, title: str) -> str:
    """The spark of a job's trace column, or nothing where it is empty."""
    points = [(k, value) for k, value in sorted(paths.get(column, {}).items()) if math.isfinite(value)]
    if not points:
        return ""
    return spark(points, f"{title} over the iterations: {short(points[0][1])} to {short(points[-1][1])}")


def more(record: Mapping[str, Any]) -> str:
    """The rest of the record, folded."""
    rows = [(title, data(record[name])) for title, name in MORE if record.get(name) is not None]
    rows += [(f"{title} calls", data((record.get("compute") or {}).get(name))) for title, name in CALLS]
    rows.append(("Peak memory", f"{data(number(record.get('peak_memory_bytes')) / 2**20)} MiB"))
    rows += [("Method", text(record["method"])), ("Configuration", f"<code>{text(record['config_hash'])}</code>")]
    rows.append(("Files", f'<code class="find">{text(record["key"])}</code>'))
    return f"<details><summary>more numbers</summary>{definitions(rows, 'numbers')}</details>"
