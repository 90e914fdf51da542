"""Steepest ascent on noise, where its path is known."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mira_pl.align import align
from mira_pl.backbones import StableDiffusion
from mira_pl.fit.steepest import Steepest
from mira_pl.noise import draw
from mira_pl.objectives import DNO
from mira_pl.problem import Problem
from mira_pl.prompts import make_jobs
from mira_pl.rewards import Brightness

ALL = torch.ones(3, dtype=torch.bool)


def parameter(*shape: int) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64))


def ascend(optimizer: torch.optim.Optimizer, noise: torch.nn.Parameter, slope: torch.Tensor, steps: int) -> None:
    """Maximise the sum over jobs of <slope, noise>."""
    for _ in range(steps):
        optimizer.zero_grad()
        (-(slope * noise).sum()).backward()
        optimizer.step()


@given(scale=st.floats(1e-12, 1e6), lr=st.floats(1e-3, 1))
def test_the_gain_of_a_linear_reward_is_the_length_of_the_way(scale: float, lr: float) -> None:
    """Each of K steps gains lr sqrt(d) |a|, whatever the scale of a job's reward: nobody goes faster at that length."""
    noise, slope = parameter(2, 3, 2, 2, 2), parameter(2, 3, 2, 2, 2).detach().flip(0) * scale
    start = noise.detach().clone()
    ascend(Steepest(noise, ALL, lr, weight_decay=0.0), noise, slope, steps=4)
    way = (noise.detach() - start).flatten(1)
    torch.testing.assert_close(way.norm(dim=1), torch.full((2,), 4 * lr * 24**0.5, dtype=torch.float64))
    torch.testing.assert_close((slope.flatten(1) * way).sum(dim=1), 4 * lr * 24**0.5 * slope.flatten(1).norm(dim=1))


def test_adam_goes_as_far_for_less() -> None:
    """The claim of the docstring: with equal gradients Adam's first step is lr sign(g), of the same length."""
    adam, steep = parameter(1, 3, 2, 2, 2), parameter(1, 3, 2, 2, 2)
    start, slope = adam.detach().clone(), parameter(1, 3, 2, 2, 2).detach().exp()
    ascend(torch.optim.AdamW([adam], lr=0.1, weight_decay=0.0), adam, slope, steps=1)
    ascend(Steepest(steep, ALL, 0.1, weight_decay=0.0), steep, slope, steps=1)
    ways = [(noise.detach() - start) for noise in (adam, steep)]
    assert float(ways[0].norm()) == pytest.approx(float(ways[1].norm()), rel=1e-5)
    assert float((slope * ways[0]).sum()) < 0.8 * float((slope * ways[1]).sum())


def test_without_a_gradient_only_the_decay_moves() -> None:
    noise = parameter(2, 3, 2, 2, 2)
    start = noise.detach().clone()
    slope = torch.ones_like(start)
    slope[1] = 0
    ascend(Steepest(noise, ALL, 0.1, weight_decay=0.5), noise, slope, steps=1)
    torch.testing.assert_close(noise.detach()[1], 0.95 * start[1])
    torch.testing.assert_close(noise.detach()[0], 0.95 * start[0] + 0.1)


def test_a_fit_takes_steps_of_the_learning_rate_in_what_it_learns(tiny_sd) -> None:
    """x_T alone, two jobs: each moves by a root mean square of lr along its own gradient."""
    backbone, objective = StableDiffusion(str(tiny_sd), steps=3), DNO(noises="initial")
    options = {"iterations": 1, "lr": 0.02, "weight_decay": 0.0, "optimizer": "steepest"}
    trainer = {"accelerator": "cpu", "enable_progress_bar": False}
    found = align(["a cat", "a dog"], backbone, Brightness(), objective, trainer=trainer, **options)
    problem = Problem.of(backbone, Brightness(), make_jobs(["a cat", "a dog"], [0]))
    noise = draw(problem.jobs, backbone.noise_shape).requires_grad_()
    objective.loss(problem, noise, None, 0).value.sum().backward()
    slope = noise.grad[:, -1]
    moved = noise.detach().clone()
    moved[:, -1] -= 0.02 * slope / slope.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    torch.testing.assert_close(found.images, problem.attempt(moved).trajectory.images, atol=1e-5, rtol=1e-5)
    assert not torch.equal(found.images, found.start_images)
