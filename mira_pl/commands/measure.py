"""Experiments on the emoji world: how well its model draws, and which runs hacked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from ..backbones import PixArt, StableDiffusion
from ..experiments.hacking import (
    MEASURES,
    Labelled,
    at_equal_reward,
    best_within,
    collect,
    curves,
    detection,
    figure,
    outcome_table,
)
from ..experiments.picture import png
from ..experiments.quality import contact_sheet, distance_to_renders, measure
from ..experiments.strips import sheet, strips
from ..judges.truth import TruthJudge
from ..runs import RunFolder, write_atomic
from .arguments import Arguments


def world_quality(argv: Sequence[str]) -> None:
    """What the judge finds on pictures that the embedded model draws: the figures of its model card."""
    parser = Arguments(prog="python -m mira_pl experiment world-quality", description=world_quality.__doc__)
    parser.add_argument("--model", default="emoji", help="'emoji' or a folder in diffusers layout")
    parser.add_argument("--student", help="'emoji' or the folder of a one-step U-Net, which then draws")
    parser.add_argument("--dit", help="'emoji' or the folder of a one-step PixArt, which then draws")
    parser.add_argument("--seeds", type=int, default=4, help="pictures a prompt")
    parser.add_argument("--steps", type=int, default=20, help="DDIM steps")
    parser.add_argument("--limit", type=int, default=None, help="use the first so many prompts of each set only")
    parser.add_argument("--out", type=Path, default=Path("runs/world-quality"), help="folder of the results")
    options = parser.parse_args(list(argv))
    if options.dit is not None:
        backbone = PixArt(options.dit, one_step_at=999, guidance=1.0)
    elif options.student is not None:
        backbone = StableDiffusion(
            options.model, steps=1, guidance=1.0, sampler="euler_ancestral", student=options.student
        )
    else:
        backbone = StableDiffusion(options.model, steps=options.steps, eta=1.0, guidance=5.0)
    rates, images = measure(backbone, TruthJudge(), range(options.seeds), options.limit)
    table = pd.DataFrame([vars(rate) for rate in rates])
    write_atomic(options.out / "rates.csv", table.to_csv(index=False).encode())
    write_atomic(options.out / "contact.png", contact_sheet(images))
    _print("pictures of the embedded model, by the judge", table)
    print(f"CMMD to as many real renders (CLIP of the world, unbiased): {distance_to_renders(images):.3f}")
    print(options.out / "contact.png")


def hacking(argv: Sequence[str]) -> None:
    """Reward against truth for finished runs of the emoji world, and the AUROC of every drift measure."""
    parser = Arguments(prog="python -m mira_pl experiment hacking", description=hacking.__doc__)
    parser.add_argument("runs", nargs="+", help="FOLDER or NAME=FOLDER of each run")
    parser.add_argument(
        "--share", type=float, default=0.5, help="compare where this share of the first run's gain is had"
    )
    parser.add_argument("--skip", type=int, default=0, help="leave out the first so many prompts: those tuned on")
    parser.add_argument(
        "--within", choices=MEASURES, help="also take the best frames of the first run by their rise in this"
    )
    parser.add_argument("--limits", type=float, nargs="+", default=[], help="of that rise")
    parser.add_argument(
        "--keys", nargs="+", help="jobs that are shown; default: filmstrips of the first 3, results of the first 8"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/hacking"), help="folder of the results")
    options = parser.parse_args(list(argv))
    runs = [_labelled(text) for text in options.runs]
    table: Any = collect(runs, TruthJudge())
    table = table[~table["prompt"].isin(table["prompt"].unique()[: options.skip])]
    if table.empty:
        raise ValueError(f"--skip {options.skip} leaves no prompt")
    results = {
        "outcome": ("last frame, mean (95 % interval over prompts)", outcome_table(table)),
        "equal_reward": (
            f"faithful at {options.share:.0%} of the gain of the first run",
            at_equal_reward(table, options.share),
        ),
        "detection": ("hacked or faithful: AUROC", detection(table)),
    }
    if options.within is not None:
        title = f"the first run, of each job the best frame within limits of {options.within}"
        results["within"] = (title, best_within(table, options.within, options.limits))
    for name, (title, result) in results.items():
        write_atomic(options.out / f"{name}.csv", result.to_csv(index=False).encode())
        _print(title, result)
    means = curves(table)
    write_atomic(options.out / "curves.csv", means.to_csv(index=False).encode())
    write_atomic(options.out / "figure.png", png(figure(means)))
    keys = list(table["key"].unique())
    write_atomic(options.out / "strips.png", png(strips(runs, options.keys or keys[:3])))
    write_atomic(options.out / "sheet.png", png(sheet(runs, options.keys or keys[:8])))
    print(options.out)


def _labelled(text: str) -> Labelled:
    """NAME=FOLDER; a folder alone is called by its own name."""
    name, separator, folder = text.partition("=")
    path = Path(folder if separator else text)
    if not (path / "records.jsonl").exists():
        raise ValueError(f"{text!r} is no FOLDER or NAME=FOLDER of a finished run: give for example dno=runs/dark_dno")
    return Labelled(name if separator else path.name, RunFolder(path))


def _print(title: str, table: pd.DataFrame) -> None:
    shown = Table(*table.columns, title=title)
    for row in table.itertuples(index=False):
        shown.add_row(*(_cell(value) for value in row))
    Console(width=160).print(shown)


def _cell(value: Any) -> str:
    if isinstance(value, tuple):
        return "{:.3f} ({:.3f}..{:.3f})".format(*value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)
