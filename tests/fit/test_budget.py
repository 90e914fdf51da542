"""A budget ends a run of any method where the same run with fewer iterations would have ended."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mira_pl.fit import Budget
from mira_pl.fit.state import RUNNING, SPENT, BatchState
from mira_pl.runs import RunFolder
from mira_pl.types import Job

T = 6  # denoiser calls of a sampling: three steps with guidance


def results(folder: Path) -> list[tuple]:
    """What a run gives, but for its name of the end."""
    run = RunFolder(folder)
    noises = [load_file(folder / "noise" / f"{record['key']}.safetensors")["noise"] for record in run.records()]
    rows = [[row[name] for name in ("key", "iteration", "reward", "drift")] for row in run.trace()]
    kept = [(record["reward"], record["drift"], record["iterations"], record["compute"]) for record in run.records()]
    return [*kept, rows, *(noise.tolist() for noise in noises)]


@pytest.mark.parametrize(
    ("method", "length", "few", "budget"),
    [
        ([], "--model.iterations", 2, f"unet: {3 * T - 1}"),  # an iteration of MIRA costs T calls
        (["--model.keep", "best"], "--model.iterations", 2, "backward: 17"),  # and T backward
        (["--model", "NoiseSearch", "--model.search", "BestOfN"], "--model.search.candidates", 2, "vae: 2"),
    ],
)
def test_as_if_it_had_been_given_fewer_iterations(run_fit, tmp_path, method, length, few, budget):
    short = run_fit(tmp_path / "short", *method, length, str(few), "--data.limit", "2")
    spent = run_fit(tmp_path / "spent", *method, length, "5", "--data.limit", "2", "--data.budget", budget)
    assert results(spent) == results(short)
    assert {record["status"] for record in RunFolder(spent).records()} == {"spent its budget"}


@pytest.mark.slow
@pytest.mark.parametrize("search", ["FK", "MIRAFK", "CoDe", "DAS", "DPS", "DyMO"])
def test_searches_are_repeated_until_it_is_spent(run_fit, tmp_path, search):
    method = ["--model", "NoiseSearch", "--model.search", search, "--data.limit", "1"]
    short = run_fit(tmp_path / "short", *method, "--model.search.rounds", "2")
    (record,) = RunFolder(short).records()
    budget = f"unet: {1.25 * record['compute']['unet']:.0f}"  # a third round costs half as much again
    spent = run_fit(tmp_path / "spent", *method, "--model.search.rounds", "9", "--data.budget", budget)
    assert results(spent) == results(short)
    assert RunFolder(spent).records()[0]["status"] == "spent its budget"


def test_a_budget_is_spent_alike_by_every_engine(run_fit, tmp_path):
    limits = ["--data.limit", "1", "--model.iterations", "4", "--data.budget", f"unet: {3 * T - 1}"]
    spent = []
    for engine in ("full", "checkpoint", "walk"):
        (record,) = RunFolder(run_fit(tmp_path / engine, "--model.engine", engine, *limits)).records()
        spent.append((record["iterations"], record["compute"]))
    assert spent[0][0] == 2 and spent == [spent[0]] * 3


def state(ticks: int, unet: int, seconds: float) -> BatchState:
    jobs = [Job("a", 0, "a"), Job("b", 1, "b")]
    made = BatchState.new(0, jobs, torch.zeros(2, 4, 1, 2, 2))
    made.tick, made.costs["unet"], made.seconds = ticks, [unet, unet], seconds
    return made


@pytest.mark.parametrize(
    ("budget", "ticks", "unet", "seconds", "status"),
    [
        (Budget(), 5, 10**9, 1e9, RUNNING),
        (Budget(unet=60), 5, 50, 0.0, RUNNING),  # a sixth iteration fits exactly
        (Budget(unet=59), 5, 50, 0.0, SPENT),
        (Budget(unet=9), 1, 10, 0.0, SPENT),
        (Budget(seconds=30.0), 2, 0, 40.0, RUNNING),  # 20 seconds a job of two
        (Budget(seconds=29.0), 2, 0, 40.0, SPENT),
        (Budget(unet=100, seconds=29.0), 2, 2, 40.0, SPENT),
    ],
)
def test_stops_before_an_iteration_that_would_exceed_it(budget, ticks, unet, seconds, status):
    made = state(ticks, unet, seconds)
    budget.stop(made)
    assert made.status.tolist() == [status, status]
    assert status == RUNNING or made.stopped_at.tolist() == [ticks, ticks]


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ValueError, match="unet must be greater than 0, got 0"):
        Budget(unet=0)
