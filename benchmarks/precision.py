"""Whether bfloat16 points where float32 does, on real architectures with random weights, and what two updates need."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mira_pl.objectives import MIRA
from mira_pl.problem import Problem
from mira_pl.trajectory import Engine

from .contenders import Setting, start
from .loops import fit_with_lightning
from .measure import peak_bytes, release

GOALS = {"sd15": 6.0, "sdxl": 24.0}
"""GB, of one prompt."""
COSINE = 0.99
UPDATES = 2


@dataclass(frozen=True)
class Direction:
    """What came of one model.

    Attributes:
        name: of the setting.
        steps: T.
        finite: whether the noise after two updates and the rewards were numbers.
        peak_bytes: of the fit, see `measure.peak_bytes`.
        goal_bytes: of one prompt at real size.
        cosine: between the first gradients in low precision and in float32.
    """

    name: str
    steps: int
    finite: bool
    peak_bytes: int
    goal_bytes: float | None
    cosine: float


def direction(setting: Setting) -> Direction:
    """Two updates of MIRA through Lightning, then the first gradient in both precisions."""
    one, device = replace(setting, prompts=1), setting.weights.device
    problem = replace(one.problem(1), engine=Engine("checkpoint"))
    with peak_bytes(device) as peak:
        module = fit_with_lightning(problem, MIRA(), UPDATES, "gpu" if device.type == "cuda" else "cpu")
    (result,) = module.results
    finite = bool(torch.isfinite(module.noise).all()) and result.records[0]["status"] == "finished"
    del module, result
    low = gradient(problem, one)
    del problem
    release(device)
    exact = gradient(replace(one, weights=replace(one.weights, dtype="float32")).problem(1), one)
    cosine = float(torch.nn.functional.cosine_similarity(low.flatten(), exact.flatten(), dim=0))
    goal = 1e9 * GOALS[one.model] if one.weights.size == "real" else None
    return Direction(one.name, one.steps, finite, peak.bytes, goal, cosine)


def gradient(problem: Problem, setting: Setting) -> Tensor:
    """Of the reward in the starting noise, computed without TensorFloat32, on the CPU in double precision."""
    noise = start(problem, setting)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        problem.attempt(noise).reward.sum().backward()
    assert noise.grad is not None
    return noise.grad.double().cpu()


def told(found: Direction) -> str:
    """One line."""
    goal = "" if found.goal_bytes is None else f" (goal {found.goal_bytes / 1e9:.0f})"
    return (
        f"{found.name}, {UPDATES} updates: {'finite' if found.finite else 'NOT FINITE'}; peak "
        f"{found.peak_bytes / 1e9:.3f} GB{goal}; gradient's cosine to float32's {found.cosine:.4f} (goal {COSINE})"
    )
