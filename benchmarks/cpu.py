"""The embedded model on the CPU: engines, objectives, Lightning's overhead, and DNO's loop as its authors ship it.

Every contender runs the same jobs, T, guidance and dtype in one process; rounds of contenders alternate, and the
fastest round of each is compared: what else runs on the machine can only add to a round.
"""

import argparse
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from mira_pl import DNO, MIRA, Darkness, Engine, StableDiffusion, draw
from mira_pl.objectives import Objective
from mira_pl.problem import Problem
from mira_pl.prompts import make_jobs
from mira_pl.types import Noise

from .loops import fit_with_lightning, update, update_as_dno

ROUNDS = 5
STEPS = 20
JOBS = make_jobs(["a white cat", "a fox", "a blue bird", "a spider"], [0])


def iterate(problem: Problem, objective: Objective, noise: Noise, updates: int) -> None:
    """The bare loop: loss, backward, AdamW, and the last look without a gradient."""
    noise = torch.nn.Parameter(noise.clone())
    optimizer, anchor = torch.optim.AdamW([noise], lr=0.01), None
    for tick in range(updates):
        loss = update(problem, objective, noise, optimizer, anchor, tick)
        anchor = loss.outcome.trajectory.detach() if anchor is None else anchor
    with torch.no_grad():
        problem.attempt(noise, objective.measures(anchor))


def iterate_as_shipped(problem: Problem, noise: Noise, updates: int) -> None:
    """DNO's published loop, one job at a time."""
    for row, job in enumerate(problem.jobs):
        alone = Problem.of(problem.backbone, problem.reward, [job], problem.engine)
        single = torch.nn.Parameter(noise[row : row + 1].clone())
        optimizer = torch.optim.AdamW([single], lr=0.01)
        for _ in range(updates):
            update_as_dno(alone, single, optimizer, preview=True)


def fastest(contenders: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Seconds of the fastest round of every contender; one round of each is a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(ROUNDS + 1):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            if round_:
                seconds[name].append(time.perf_counter() - began)
    return {name: min(values) for name, values in seconds.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None: the table is always the same."""


def main(args: argparse.Namespace) -> None:
    """Measure and print."""
    backbone, half = StableDiffusion(steps=STEPS), StableDiffusion(steps=STEPS, dtype="bfloat16")
    noise, updates = draw(JOBS, backbone.noise_shape), 2

    def problem(engine: str, stored: int = 0, backbone: StableDiffusion = backbone) -> Problem:
        return Problem.of(backbone, Darkness(), JOBS, Engine(engine, stored))  # type: ignore[arg-type]

    contenders: dict[str, Callable[[], None]] = {
        "full, DNO": lambda: iterate(problem("full"), DNO(), noise, updates),
        "full, DNO, bfloat16": lambda: iterate(problem("full", backbone=half), DNO(), noise, updates),
        "full, MIRA": lambda: iterate(problem("full"), MIRA(), noise, updates),
        "checkpoint, DNO": lambda: iterate(problem("checkpoint"), DNO(), noise, updates),
        "checkpoint, half of the steps stored, DNO": lambda: iterate(
            problem("checkpoint", STEPS // 2), DNO(), noise, updates
        ),
        "walk, DNO": lambda: iterate(problem("walk"), DNO(), noise, updates),
        "full, DNO, Lightning": lambda: fit_with_lightning(problem("full"), DNO(), updates),
        "DNO as shipped": lambda: iterate_as_shipped(problem("checkpoint"), noise, updates),
    }
    seconds = fastest(contenders)
    table = Table(
        "contender",
        "s an image and iteration",
        "ratio to full, DNO",
        title=f"T {STEPS}, {len(JOBS)} jobs, {torch.get_num_threads()} threads",
    )
    for name, value in seconds.items():
        table.add_row(name, f"{value / len(JOBS) / updates:.3f}", f"{value / seconds['full, DNO']:.3f}")
    Console(width=100).print(table)
