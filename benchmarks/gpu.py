"""Real architectures with random weights on one card: our engines beside the published loops, and beside the card."""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import get_args

import torch

from mira_pl.backbones.compiled import Compile

from .contenders import NAMES, OBJECTIVES, THEIRS, Contender, Setting, enter, plays
from .flops import Work, work
from .measure import Ceilings, ceilings, describe, peak_bytes, release, seconds
from .models import MODELS, Weights
from .precision import GOALS, direction, told
from .report import ITERATIONS, Row, compared, linearity, print_rows, write

SIDES = {"real": 8192, "tiny": 256}  # of the matrices whose product is the ceiling


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything has the value that the goals of docs/performance.md speak of."""
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--contenders", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--prompts", type=int, default=8, help="at once; the published loops take one at a time")
    parser.add_argument("--steps", type=int, nargs="+", help="T; several give the line through them; default: paper's")
    parser.add_argument("--objective", choices=OBJECTIVES, default="dno", help="of ours")
    parser.add_argument("--size", choices=SIDES, default="real")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--compile", choices=get_args(Compile), default="none", help="of ours")
    parser.add_argument("--channels-last", action="store_true", help="of ours")
    parser.add_argument("--warmup", type=int, default=2, help="iterations that do not count")
    parser.add_argument("--repeats", type=int, default=5, help="iterations of which the median counts")
    parser.add_argument("--json", type=Path, metavar="FILE")


def main(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        if args.json:
            write(args.json, describe(torch.device("cpu")), [])
        return
    weights = Weights(args.size, device, args.dtype, args.compile, args.channels_last)
    ceiling = ceilings(device, getattr(torch, args.dtype), SIDES[args.size])
    print(f"ceilings: {ceiling.flops / 1e12:.2f} TFLOP/s by matrix products, {ceiling.bytes / 1e9:.1f} GB/s by copies")
    rows, directions = [], []
    for name in args.models:
        counted, steps = work(name, args.size), args.steps or [MODELS[name].steps]
        settings = [Setting(name, t, args.prompts, weights, args.objective) for t in steps]
        found = [row for setting in settings for row in group(setting, args, counted, ceiling)]
        rows += compared(found)
        line = linearity([row for row in found if row.contender == "ours"])
        if line is not None:
            print(f"{name}: {line[0]:.5f} s a step and {line[1]:.5f} s beside the steps, an image")
    print_rows(rows)
    for name in (name for name in args.models if name in GOALS):
        steps = max(args.steps or [MODELS[name].steps])
        setting = Setting(name, steps, 1, weights)
        try:
            directions.append(direction(setting))
            print(told(directions[-1]))
        except torch.OutOfMemoryError:
            print(f"{setting.name}, gradient's direction: out of memory")
    if args.json:
        facts = describe(device) | {"size": args.size, "dtype": args.dtype, "objective": args.objective}
        facts |= {"compile": args.compile, "channels_last": args.channels_last}
        more = {"ceilings": asdict(ceiling), "directions": [asdict(found) for found in directions]}
        write(args.json, facts | more, rows)


def group(setting: Setting, args: argparse.Namespace, counted: Work, ceiling: Ceilings) -> list[Row]:
    """All contenders of one setting, one after the other."""
    names = [name for name in NAMES if name in args.contenders and plays(name, setting)]
    settings = {name: setting.eager if name in THEIRS else setting for name in names}
    return [measured(name, settings[name], args, counted, ceiling) for name in names]


def measured(name: str, setting: Setting, args: argparse.Namespace, counted: Work, ceiling: Ceilings) -> Row:
    """One contender; one that does not fit into memory says so."""
    device = setting.weights.device
    release(device)
    try:
        begun = time.perf_counter()
        contender = enter(name, setting)
        seconds(contender.iterate, device, 0, 1)
        first = time.perf_counter() - begun
        peak = peak_of(contender.iterate, setting)
        clock = contender.clock or partial(seconds, contender.iterate, device, max(0, args.warmup - 2))
        taken = statistics.median(clock(args.repeats))
    except torch.OutOfMemoryError:
        return Row(setting.name, name, setting.steps, setting.prompts, note="out of memory")
    found = row(name, setting, contender, taken / contender.prompts, peak, counted, ceiling)
    return replace(found, first_seconds=first)


def peak_of(run: Callable[[], object], setting: Setting) -> int | None:
    """Of a call; not of compiled code on a CPU, which makes its tensors out of torch's sight."""
    if setting.weights.device.type == "cpu" and setting.weights.compile != "none":
        run()
        return None
    with peak_bytes(setting.weights.device) as peak:
        run()
    return peak.bytes


def row(
    name: str, setting: Setting, contender: Contender, taken: float, peak: int | None, counted: Work, ceiling: Ceilings
) -> Row:
    """Of seconds an image and iteration."""
    possible = taken * ceiling.flops
    done = counted.done(setting.steps, contender.recomputed, contender.previews)
    return Row(
        setting.name,
        name,
        setting.steps,
        contender.prompts,
        taken,
        peak,
        3600 / (ITERATIONS * taken),
        counted.needed(setting.steps) / possible,
        done / possible,
    )
