"""The end of a round: one last look at every job, then its files and its record."""

import platform
import resource
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed

from ..problem import Outcome, Problem
from ..runs import RunFolder
from ..types import Images
from .state import FAILED, RUNNING, STATUS, BatchState

if TYPE_CHECKING:
    from .module import NoiseAlignment
    from .solver import Solver


@dataclass(frozen=True, eq=False)
class Result:
    """A finished batch: records and trace rows as they are written, images as they were drawn."""

    records: list[dict[str, Any]]
    trace: list[dict[str, Any]]
    start_images: Images
    images: Images


VERSIONS = ("torch", "lightning", "diffusers", "transformers")


def finish(module: "Solver") -> None:
    """Look at what is returned, write images and noise, gather records and traces, and let rank 0 write them."""
    state, problem, run, records = module.state, module.problem, module.run, []
    seen = 0 if state is None else len(state.trace)
    if state is not None and problem is not None:
        began = time.perf_counter()
        outcome = module.last_look(state, problem)
        state.add_cost(time.perf_counter() - began, module.spent_since_last(), state.keys)
        records = _records(module, state, problem, outcome)
        if run is not None:
            _write_files(run, module.config_hash, state, outcome)
        starts = state.begun.images[: len(state.jobs)]
        module.results.append(Result(records, state.trace, starts, outcome.trajectory.images))
    module.report([] if state is None else state.trace[seen:], module.global_step + 1)
    parts = _gather((records, state.trace if state is not None else []))
    if run is not None and module.trainer.is_global_zero:
        run.add([r for part in parts for r in part[0]], [r for part in parts for r in part[1]], module.data.order())
        run.save_contact()
    module.trainer.strategy.barrier()
    if run is not None and state is not None:
        run.state_path(state.index).unlink(missing_ok=True)


@torch.no_grad()
def last_look(module: "NoiseAlignment", state: BatchState, problem: Problem) -> Outcome:
    """The outcome of the noise that is returned; jobs that ran to the end get their last trace row here.

    From here on the state's noises are those that are returned and that they started from, one a job.
    """
    last = module.look(state, problem, module.objective.attempt(problem, state.noise, state.anchor))
    state.stop(~torch.isfinite(last.reward), FAILED)
    restored = (state.status == FAILED) | state.outside
    if module.keep == "best":
        restored = torch.ones_like(restored)
    state.rows = torch.where(restored, state.best_row, state.rows)
    noise, start_noise = (module.objective.split(part)[state.rows] for part in (state.noise, state.start_noise))
    state.noise = torch.where(restored.view(-1, 1, 1, 1, 1), state.best_noise, noise)
    state.start_noise = start_noise
    if state.elbo is not None and state.best_elbo is not None:
        state.elbo = torch.where(restored, state.best_elbo, state.elbo)
    if not bool(restored.any()):
        return last
    return problem.attempt(state.noise, module.objective.measures(state.begun.rows(state.rows)))


def _records(module: "Solver", state: BatchState, problem: Problem, outcome: Outcome) -> list[dict[str, Any]]:
    path, anchor = outcome.trajectory, state.begun.rows(state.rows)
    first = {row["key"]: row for row in reversed(state.trace)}
    clip = module.clip.score(path.images, problem.prompts) if module.clip is not None else None
    stopped = torch.where(state.status == RUNNING, state.tick, state.stopped_at)
    shared = {
        "method": module.method,
        "reward_name": module.reward.name,
        "seconds": state.seconds / len(state.jobs),
        "peak_memory_bytes": _peak_memory(module.device),
        "config_hash": module.config_hash,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS},
    }
    return [
        {
            "key": job.key,
            "prompt": job.prompt,
            "seed": job.seed,
            "reward_start": first[job.key]["reward"],
            "reward": float(outcome.reward[row]),
            "drift": float(anchor.energies[0, row] - path.energies[0, row]),
            "S0": float(anchor.energies[0, row]),
            "S": float(path.energies[0, row]),
            "score_difference": float(path.energies[1, row]),
            "elbo": None if state.elbo is None else float(state.elbo[row]),
            "clip_start": first[job.key].get("clip"),
            "clip": None if clip is None else float(clip[row]),
            "noise_norm": float(state.noise[row].norm()),
            "iterations": int(stopped[row]),
            "status": STATUS[int(state.status[row])],
            "compute": {name: counts[row] for name, counts in state.costs.items()},
        }
        | shared
        for row, job in enumerate(state.jobs)
    ]


def _write_files(run: RunFolder, config_hash: str, state: BatchState, outcome: Outcome) -> None:
    for row, job in enumerate(state.jobs):
        text = {"prompt": job.prompt, "seed": str(job.seed), "config_hash": config_hash}
        film = [frame[row].float() for frame in state.frames]
        run.save_images(job.key, text, state.begun.images[row], outcome.trajectory.images[row], film)
        if bool(state.noise[row].isfinite().all()):  # a search may find images that no noise of the sampler draws
            run.save_noise(job.key, state.noise[row], state.start_noise[row])


def _gather(value: Any) -> list[Any]:
    if not torch.distributed.is_initialized():
        return [value]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, value)
    return parts


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
