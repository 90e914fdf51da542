"""Weak scaling of `mira_pl fit`: as many jobs a process, in one process and in several, one thread each.

Start-up and the last look cancel: what counts is the time that the second half of the iterations adds to a whole fit.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from .measure import describe
from .report import write


@dataclass(frozen=True)
class Row:
    """So many processes, with as many jobs each as one process had.

    Attributes:
        processes: started at once.
        seconds_per_iteration: of all of them together, each with its batch.
        speedup: jobs a second over those of one process.
        efficiency: the same a process; 1 is none lost.
    """

    processes: int
    seconds_per_iteration: float
    speedup: float
    efficiency: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `python -m benchmarks scaling`."""
    parser.add_argument("--config", help="of the fit; without one the emoji world is made dark")
    parser.add_argument("--processes", type=int, nargs="+", default=[2], help="compared with one")
    parser.add_argument("--prompts", type=int, default=4, help="of every process")
    parser.add_argument("--steps", type=int, default=20, help="T")
    parser.add_argument("--iterations", type=int, default=10, help="half of those of the longer fit")
    parser.add_argument("--rounds", type=int, default=3, help="fits of one kind, of which the fastest counts")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE")


def main(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    cards = torch.cuda.device_count() if args.device == "cuda" else max(args.processes)
    if cards < max(args.processes):
        print(f"{max(args.processes)} cards wanted, {cards} here: nothing was measured")
        return
    taken = second_halves((1, *args.processes), args)
    rows = [Row(count, spent, count * taken[1] / spent, taken[1] / spent) for count, spent in taken.items()]
    table = Table("processes", "s an iteration of all", "jobs a second, over one process", "a process")
    for row in rows:
        table.add_row(
            str(row.processes), f"{row.seconds_per_iteration:.3f}", f"{row.speedup:.3f}", f"{row.efficiency:.1%}"
        )
    Console(width=100).print(table)
    if args.json:
        facts = describe(torch.device(args.device)) | {"prompts": args.prompts, "steps": args.steps}
        write(args.json, facts, rows)


def second_halves(counts: Sequence[int], args: argparse.Namespace) -> dict[int, float]:
    """Seconds an iteration of so many processes, without what a fit costs before and after.

    Rounds go through all counts: a machine that others share is not equally fast all the time.
    """
    short, long = args.iterations, 2 * args.iterations
    rounds = [{(n, k): fit(n, k, args) for n in counts for k in (short, long)} for _ in range(args.rounds)]
    fastest = {case: min(taken[case] for taken in rounds) for case in rounds[0]}
    return {n: (fastest[n, long] - fastest[n, short]) / (long - short) for n in counts}


def fit(processes: int, iterations: int, args: argparse.Namespace) -> float:
    """Seconds of a whole fit."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mira_pl", "fit", *([] if args.config is None else ["--config", args.config])]
        command += ["--model.iterations", str(iterations), "--model.backbone.init_args.steps", str(args.steps)]
        command += ["--data.prompts", "animals", "--data.limit", str(processes * args.prompts)]
        command += ["--data.batch_size", str(args.prompts), "--trainer.devices", str(processes)]
        command += ["--trainer.accelerator", "gpu" if args.device == "cuda" else "cpu", "--out", f"{folder}/run"]
        command += ["--trainer.enable_progress_bar", "false", "--wandb.mode", "disabled"]
        began = time.perf_counter()
        done = subprocess.run(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"fit ended with {done.returncode}: {done.stderr.strip().splitlines()[-1]}")
        return time.perf_counter() - began
