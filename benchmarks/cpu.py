"""The embedded model on the CPU: engines, objectives, Lightning's overhead, and DNO's loop as its authors ship it.

Every contender runs the same jobs, T, guidance and dtype in one process. Rounds run all of them, each round in another
order, since what ran before leaves its mark on the allocator; the fastest round of each is compared: what else runs on
the machine can only add to a round.
"""

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mira_pl import DNO, MIRA, Darkness, Engine, StableDiffusion, draw
from mira_pl.memory import affordable_steps
from mira_pl.objectives import Objective
from mira_pl.problem import Problem
from mira_pl.prompts import make_jobs
from mira_pl.trajectory import EngineName
from mira_pl.types import Noise

from .loops import fit_with_lightning, update, update_as_dno
from .measure import describe, peak_bytes
from .report import Row, compared, print_rows, write

CPU = torch.device("cpu")
UPDATES = 2
JOBS = make_jobs(["a white cat", "a fox", "a blue bird", "a spider"], [0])


def iterate(problem: Problem, objective: Objective, noise: Noise) -> None:
    """The bare loop: loss, backward, AdamW, and the last look without a gradient."""
    noise = torch.nn.Parameter(noise.clone())
    optimizer, anchor = torch.optim.AdamW([noise], lr=0.01), None
    for tick in range(UPDATES):
        loss = update(problem, objective, noise, optimizer, anchor, tick)
        anchor = loss.outcome.trajectory.detach() if anchor is None else anchor
    with torch.no_grad():
        problem.attempt(noise, objective.measures(anchor))


def iterate_as_shipped(problem: Problem, noise: Noise) -> None:
    """DNO's published loop, one job at a time."""
    for row, job in enumerate(problem.jobs):
        alone = Problem.of(problem.backbone, problem.reward, [job], problem.engine)
        single = torch.nn.Parameter(noise[row : row + 1].clone())
        optimizer = torch.optim.AdamW([single], lr=0.01)
        for _ in range(UPDATES):
            update_as_dno(alone, single, optimizer, preview=True)


def measured(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, int]]:
    """Seconds of the fastest round of every contender, and the peak of a round before them."""
    peaks, seconds = {}, {name: list[float]() for name in contenders}
    for name, run in contenders.items():
        with peak_bytes(CPU) as peak:
            run()
        peaks[name] = peak.bytes
    for number in range(rounds):
        for name in random.Random(number).sample(list(contenders), len(contenders)):
            began = time.perf_counter()
            contenders[name]()
            seconds[name].append(time.perf_counter() - began)
    return {name: (min(seconds[name]), peaks[name]) for name in contenders}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The table of docs/performance.md is that of the defaults."""
    parser.add_argument("--steps", type=int, default=20, help="T")
    parser.add_argument("--contenders", nargs="+", metavar="NAME", help="of the table; default: all")
    parser.add_argument("--rounds", type=int, default=5, help="of which the fastest counts")
    parser.add_argument("--json", type=Path, metavar="FILE")


def main(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    there = contenders_of(args.steps)
    wanted = args.contenders or list(there)
    if unknown := [name for name in wanted if name not in there]:
        raise SystemExit(f"no contender {unknown[0]!r}: there are {', '.join(map(repr, there))}")
    found = measured({name: there[name] for name in wanted}, args.rounds)
    rows = [
        Row(f"emoji T={args.steps}", name, args.steps, len(JOBS), taken / len(JOBS) / UPDATES, peak)
        for name, (taken, peak) in found.items()
    ]
    print_rows(compared(rows))
    if args.json:
        write(args.json, describe(CPU) | {"threads": torch.get_num_threads()}, compared(rows))


def contenders_of(steps: int) -> dict[str, Callable[[], object]]:
    """By name; DNO's objective unless the name says another."""
    backbone, half = StableDiffusion(steps=steps), StableDiffusion(steps=steps, dtype="bfloat16")
    noise = draw(JOBS, backbone.noise_shape)

    def problem(engine: EngineName, stored: int = 0, backbone: StableDiffusion = backbone) -> Problem:
        return Problem.of(backbone, Darkness(), JOBS, Engine(engine, stored))

    fitting = affordable_steps(backbone, problem("checkpoint").condition, noise)
    return {
        "ours": lambda: iterate(problem("checkpoint", fitting), DNO(), noise),
        "full": lambda: iterate(problem("full"), DNO(), noise),
        "full, bfloat16": lambda: iterate(problem("full", backbone=half), DNO(), noise),
        "full, MIRA": lambda: iterate(problem("full"), MIRA(), noise),
        "checkpoint": lambda: iterate(problem("checkpoint"), DNO(), noise),
        "checkpoint, half stored": lambda: iterate(problem("checkpoint", steps // 2), DNO(), noise),
        "walk": lambda: iterate(problem("walk"), DNO(), noise),
        "full, Lightning": lambda: fit_with_lightning(problem("full"), DNO(), UPDATES),
        "dno_shipped": lambda: iterate_as_shipped(problem("checkpoint"), noise),
    }
