"""The guard pulls at the final latents with a force of a fixed ratio to the reward's, whatever the two scales."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from mira_pl.backbones.analytic import MixtureBackbone
from mira_pl.noise import draw
from mira_pl.objectives import DNO, EstimatedGradient, Guarded
from mira_pl.objectives.base import Loss
from mira_pl.objectives.guarded import length
from mira_pl.problem import Problem
from mira_pl.rewards import BlackBox, Brightness, JPEGSize, Reward
from mira_pl.trajectory import Engine
from mira_pl.types import Job

JOBS = [Job("a", 1, "a"), Job("b", 2, "b")]


@dataclass(frozen=True)
class Likeness(Reward):
    """A stand-in for CLIPScore: nearness to a picture of each prompt, times a scale."""

    scale: float = 1.0
    differentiable: ClassVar[bool] = True

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        wanted = torch.stack([torch.full_like(images[0], ord(prompt[0]) / 200) for prompt in prompts])
        return -self.scale * (images - wanted).square().sum(dim=(1, 2, 3))


def problem(clip: Reward | None) -> Problem:
    means = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    backbone = MixtureBackbone(means, torch.tensor([0.5, 0.9]), torch.tensor([0.4, 0.6]), steps=3)
    return replace(Problem.of(backbone, Brightness(), JOBS, Engine("full")), clip=clip)


def solved(objective, clip: Reward | None = None) -> tuple[Loss, Tensor]:
    """The loss at the jobs' own noises, and its gradient in them."""
    posed = problem(clip)
    noise = draw(JOBS, posed.backbone.noise_shape).requires_grad_()
    loss = objective.loss(posed, noise, None, 0)
    return loss, torch.autograd.grad(loss.value.sum(), noise, retain_graph=True)[0]


def slope(reward: Reward, latents: Tensor) -> Tensor:
    """Of every job's score in the latents, through the decoder alone."""
    leaf = latents.detach().clone().requires_grad_()
    score = reward.score(problem(None).backbone.decode(leaf), [job.prompt for job in JOBS])
    return torch.autograd.grad(score.sum(), leaf)[0].flatten(1)


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_forces_at_the_final_latents_have_the_ratio_of_the_weight(weight) -> None:
    loss, _ = solved(Guarded(weight), Likeness())
    latents = loss.outcome.trajectory.latents
    (found,) = torch.autograd.grad(loss.value.sum(), latents)
    ascent, guard = slope(Brightness(), latents), slope(Likeness(), latents)
    ratio = ascent.norm(dim=1, keepdim=True) / guard.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found.flatten(1), -(ascent + weight * ratio * guard))
    assert loss.scored == 1  # the guard's score, beside the reward's


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_the_guard_does_not_matter(scale) -> None:
    _, once = solved(Guarded(), Likeness())
    _, scaled = solved(Guarded(), Likeness(scale))
    torch.testing.assert_close(scaled, once)


def test_without_weight_or_slope_it_is_plain_ascent() -> None:
    _, plain = solved(DNO())
    for objective, guard in [(Guarded(0.0), Likeness()), (Guarded(), Likeness(0.0))]:
        loss, gradient = solved(objective, guard)
        torch.testing.assert_close(gradient, plain)
        assert loss.value.isfinite().all()


def test_slopes_are_seen_through_half_precision() -> None:
    """A decoder in float16, and a mean over so many pixels that its slope of 3e-8 is nothing there."""
    latents = torch.zeros(2, 4, requires_grad=True)
    score = latents.half().float().sum(dim=1) / 3e7
    torch.testing.assert_close(length(score, latents), torch.full((2,), 2 / 3e7), rtol=1e-2, atol=0)


def test_refusals_name_the_way_out() -> None:
    backbone = problem(None).backbone
    with pytest.raises(ValueError, match="is null: give it a reward"):
        Guarded().check(backbone, Brightness())
    with pytest.raises(ValueError, match="the guard of Guarded needs reward gradients"):
        Guarded().check(backbone, Brightness(), BlackBox(Likeness()))
    with pytest.raises(ValueError, match="EstimatedGradient around DNO"):
        Guarded().check(backbone, JPEGSize(), Likeness())
    with pytest.raises(ValueError, match="Guarded weighs by the reward's true gradient: take DNO or MIRA inside"):
        EstimatedGradient(Guarded())
    with pytest.raises(ValueError, match="weight must be at least 0, got -1"):
        Guarded(-1.0)
