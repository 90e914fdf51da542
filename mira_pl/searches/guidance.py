"""The gradient of the reward of a one-step look-ahead, which guided samplers climb."""

from typing import Literal

import torch
from torch import Tensor

from ..diffusion import from_noise
from ..problem import Problem
from ..types import Latents

Through = Literal["denoiser", "decoder"]


def ascent(problem: Problem, x: Latents, step: int, through: Through = "denoiser") -> tuple[Tensor, ...]:
    """Predicted noise and x_0, what the prompt adds to the noise, reward of that x_0 [b], and its gradient in x.

    Args:
        problem: with a row for every row of x.
        x: latents before `step`.
        step: of the schedule.
        through: `denoiser` is the whole gradient; `decoder` takes the predicted noise as constant, so that no gradient
            passes the denoiser (the public code of CoDe); it needs abar > 0.
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        with torch.set_grad_enabled(through == "denoiser"):
            seen, pull = problem.backbone.guided(leaf, step, problem.condition)
        if through == "decoder":
            seen = from_noise(leaf, seen.eps, problem.backbone.schedule.alpha[step])
        reward = problem.reward.score(problem.backbone.decode(seen.x0), problem.prompts)
        (gradient,) = torch.autograd.grad(reward.sum(), leaf)
    return seen.eps.detach(), seen.x0.detach(), pull.detach(), reward.detach(), gradient
