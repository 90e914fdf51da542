"""The gradient of the reward of a one-step look-ahead, which guided samplers climb."""

from typing import Literal

import torch
from torch import Tensor

from ..diffusion import predict_x0
from ..problem import Problem
from ..types import Latents

Through = Literal["denoiser", "decoder"]


def ascent(problem: Problem, x: Latents, step: int, through: Through = "denoiser") -> tuple[Tensor, ...]:
    """Prediction, what the prompt adds to it, reward of the predicted x_0 [b], and the reward's gradient in x.

    Args:
        problem: with a row for every row of x.
        x: latents before `step`.
        step: of the schedule.
        through: `denoiser` is the whole gradient; `decoder` takes the prediction as constant, so that no gradient
            passes the denoiser (the public code of CoDe).
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        with torch.set_grad_enabled(through == "denoiser"):
            eps, pull = problem.backbone.guided(leaf, step, problem.condition)
        clean = predict_x0(leaf, eps, problem.backbone.schedule, step)
        reward = problem.reward.score(problem.backbone.decode(clean), problem.prompts)
        (gradient,) = torch.autograd.grad(reward.sum(), leaf)
    return eps.detach(), pull.detach(), reward.detach(), gradient
