"""What is looked at in every iteration: the columns of the trace, the best iterate, and whether a job is done."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..drift import surrogate
from ..problem import Outcome, Problem
from ..rewards import Reward
from ..runs import TRACE_COLUMNS
from ..types import Noise
from .state import FAILED, REACHED, STALLED, BatchState

MEANS = TRACE_COLUMNS[2:]  # every column but key and iteration


@dataclass(frozen=True)
class Limits:
    """How far what a job returns may be from its start. One that ends beyond returns its best iterate within.

    Attributes:
        drift: the largest |S_0 - S|; None is without limit.
        clip: the largest fall of CLIPScore.
    """

    drift: float | None = None
    clip: float | None = None

    def beyond(self, columns: Mapping[str, Tensor], start_clip: Tensor | None) -> Tensor:
        """Which jobs of a look are beyond a limit."""
        found = torch.zeros_like(columns["drift"], dtype=torch.bool)
        if self.clip is not None and start_clip is not None:
            found |= start_clip - columns["clip"] > self.clip
        if self.drift is not None:
            found |= columns["drift"].abs() > self.drift
        return found


NONE = Limits()


@torch.no_grad()
def evaluate(
    state: BatchState,
    problem: Problem,
    outcome: Outcome,
    noise: Noise,
    clip: Reward | None,
    elbo_pairs: int,
    limits: Limits = NONE,
    more: Mapping[str, Tensor] = MappingProxyType({}),
) -> None:
    """Add a row for every job that may have moved, and keep the best noise: of highest reward, within the limits.

    `more` are further columns of the trace.
    """
    if state.anchor is None:
        state.anchor = outcome.trajectory
    columns = _columns(state.anchor.energies[0, state.rows], outcome, noise)
    if clip is not None:
        columns["clip"] = clip.score(outcome.trajectory.images, problem.prompts)
        state.start_clip = columns["clip"] if state.start_clip is None else state.start_clip
    if elbo_pairs:
        loss = problem.denoising_loss(outcome.trajectory.latents, elbo_pairs)
        state.start_loss = loss if state.start_loss is None else state.start_loss
        columns["elbo"] = state.elbo = loss - state.start_loss
    _add_rows(state, columns | dict(more))
    state.stop(~torch.isfinite(outcome.reward), FAILED)
    state.outside = limits.beyond(columns, state.start_clip)
    better = state.moved & (outcome.reward > state.best_reward) & ~state.outside
    state.best_row = torch.where(better, state.rows, state.best_row)
    state.best_noise = torch.where(better.view(-1, 1, 1, 1, 1), noise, state.best_noise)
    state.best_reward = torch.where(better, outcome.reward, state.best_reward)
    state.best_tick = torch.where(better, state.tick, state.best_tick)
    if state.elbo is not None:
        state.best_elbo = torch.where(better, state.elbo, state.elbo if state.best_elbo is None else state.best_elbo)


def stop_finished(state: BatchState, target: float | None, patience: int | None) -> None:
    """Freeze the jobs that reached their target, or stopped improving within the limits."""
    if target is not None:
        state.stop(state.best_reward >= target, REACHED)
    if patience is not None:
        state.stop(state.tick - state.best_tick >= patience, STALLED)


def means_over_processes(
    rows: Sequence[Mapping[str, Any]], reduce: Callable[..., Tensor], device: torch.device
) -> dict[str, float]:
    """Mean of every column's finite values over the jobs of all processes, by one sum. Every process must call it."""
    sums = torch.zeros(2 * len(MEANS) + 2, dtype=torch.float64, device=device)
    for row in rows:
        for place, name in enumerate(MEANS):
            if name in row and math.isfinite(row[name]):  # a failed job has no part in the mean
                sums[2 * place] += row[name]
                sums[2 * place + 1] += 1
        sums[-2] += row["iteration"]
        sums[-1] += 1
    sums = reduce(sums, reduce_op="sum").tolist()
    if not sums[-1]:
        return {}
    means = {name: sums[2 * place] / sums[2 * place + 1] for place, name in enumerate(MEANS) if sums[2 * place + 1]}
    return means | {"iteration": sums[-2] / sums[-1]}


def _columns(start: Tensor, outcome: Outcome, noise: Noise) -> dict[str, Tensor]:
    """What every method has; `start` is S_0 of the jobs."""
    energies = outcome.trajectory.energies
    drift = surrogate(start, energies[0])
    return {
        "reward": outcome.reward,
        "S0": start,
        "S": energies[0],
        "drift": drift,
        "noise_norm": noise.flatten(1).norm(dim=1),
        "score_difference": energies[1] if len(energies) > 1 else torch.zeros_like(drift),
    }


def _add_rows(state: BatchState, columns: dict[str, Tensor]) -> None:
    names, table = list(columns), torch.stack(list(columns.values())).T.tolist()
    moved = state.moved.tolist()
    rows = [
        {"key": job.key, "iteration": state.tick} | dict(zip(names, values, strict=True)) | {"seconds": state.seconds}
        for job, values, counts in zip(state.jobs, table, moved, strict=True)
        if counts
    ]
    state.trace += rows
    state.rows_last = len(rows)
