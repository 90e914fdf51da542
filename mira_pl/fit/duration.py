"""How long a run will take: by its jobs that are done or, before the first one is, at least, by counted operations."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pydoc import locate
from typing import Any, cast

import torch

from ..hub.published import Cost
from ..memory import fitting_steps
from ..objectives import MIRADPO, Objective
from .checks import processes
from .estimate import step_gigabytes
from .parts import Parts, scores

TRIED = 0.3  # seconds of products, of which the quickest counts: other processes slow down some
SIDES = {"cuda": 4096, "cpu": 512}
REPEATED = 0.6  # of the decoder's forward pass with `checkpoint_vae`, at least: 0.68 at 512 pixels, 0.70 at 1024
MIXED = {"bf16-mixed": "bfloat16", "16-mixed": "float16"}
STOPPERS = ("target_reward", "patience")
"""Settings of a fit that end jobs before their last iteration."""


@dataclass(frozen=True)
class Operations:
    """TFLOP of one job.

    Attributes:
        model: of denoiser and decoder.
        rewards: of the rewards and of CLIPScore, which are in float32.
    """

    model: float
    rewards: float


def seconds_left(records: Sequence[Mapping[str, Any]], jobs: int) -> float | None:
    """What the jobs that are left will take, by the mean of those that are done; None before the first."""
    if not records:
        return None
    return (jobs - len(records)) * sum(record["seconds"] for record in records) / len(records)


def least_seconds(parts: Parts, jobs: int, device: torch.device) -> float | None:
    """What so many jobs take where every operation is as quick as in a matrix product, which is timed here.

    None where the operations are not known, see `operations`.
    """
    needed = operations(parts, device)
    if needed is None:
        return None
    mixed = MIXED.get(parts.config["trainer"]["precision"])
    model, rewards = (rate(device, mixed or dtype) for dtype in (parts.dtype, "float32"))
    return jobs * (needed.model / model + needed.rewards / rewards) / processes(parts.config["trainer"])


def operations(parts: Parts, device: torch.device) -> Operations | None:
    """At least what a job computes, from its first iteration to its last look.

    None for searches, for methods that do more than to sample, to score and to go back, for jobs that may stop early,
    and where nobody has counted a part.
    """
    model, step, decode = parts.model, parts.known.step, parts.known.decode
    rewards, clip = scores(parts.scorers("reward")), scores(parts.scorers("clip"))
    if parts.searched or step is None or decode is None or None in (*rewards, *clip) or may_stop(parts):
        return None
    objective = cast(type[Objective], locate(model["objective"]["class_path"]))
    if not objective.estimable or (not objective.needs_gradient and objective is not MIRADPO):
        return None
    noises, iterations = objective.candidates, model["iterations"]
    there, seen = parts.branches * parts.steps * step.forward + decode.forward, _total(rewards, "forward")
    back, judged = chain_back(parts, step, noises, device), 0.0
    if objective.needs_gradient:
        again = REPEATED * decode.forward if parts.arguments.get("checkpoint_vae") else 0
        back, judged = back + decode.backward + again, _total(rewards, "backward")
    looks, beside = iterations + 1, model["elbo_pairs"] * parts.networks * step.forward
    return Operations(
        model=looks * (noises * there + beside) + iterations * noises * back,
        rewards=looks * (noises * seen + _total(clip, "forward")) + iterations * noises * judged,
    )


def chain_back(parts: Parts, step: Cost, candidates: int, device: torch.device) -> float:
    """TFLOP of the way back through the chain of one noise, and of the steps that it computes again."""
    last = parts.model["objective"].get("init_args", {}).get("opt_time")
    reached = parts.steps if last is None else min(last, parts.steps)
    again = max(0, reached - kept_steps(parts, candidates, device))
    return parts.branches * (reached * step.backward + again * step.forward)


def kept_steps(parts: Parts, candidates: int, device: torch.device) -> int:
    """Steps whose activations the engine keeps; for `auto`, those that fit into what is free now."""
    engine, store = parts.model["engine"], parts.model["store_steps"]
    if engine == "full" or isinstance(store, int):
        return parts.steps if engine == "full" else store
    shared = processes(parts.config["trainer"]) if device.type == "cpu" else 1
    return fitting_steps(parts.steps, 1e9 * cast(float, step_gigabytes(parts)), device, shared * candidates)


def may_stop(parts: Parts) -> bool:
    """Whether jobs may end before their last iteration."""
    budget = parts.config["data"].get("budget") or {}
    return any(value is not None for value in (*map(parts.model.get, STOPPERS), *budget.values()))


def rate(device: torch.device, dtype: str) -> float:
    """TFLOP a second of a product of two square matrices, at its quickest; of float32 on a card, in TF32.

    So cuDNN computes its convolutions by default.
    """
    side, precision, taken = SIDES[device.type], torch.get_float32_matmul_precision(), list[float]()
    left, right = torch.randn(2, side, side, device=device).to(getattr(torch, dtype))
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    while len(taken) < 2 or sum(taken) < TRIED:
        began = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - began)
    torch.set_float32_matmul_precision(precision)
    return 2 * side**3 / min(taken) / 1e12


def _total(costs: Sequence[Cost | None], of: str) -> float:
    return sum(getattr(cost, of) for cost in costs)
