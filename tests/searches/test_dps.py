"""DPS where it is exact: data N(0, 1) and a linear reward."""

import pytest
import torch
from closed_form import Linear, flow, gaussian, posed

from mira_pl.diffusion import transition
from mira_pl.rewards import Brightness
from mira_pl.searches import DPS
from mira_pl.searches.guidance import ascent
from mira_pl.trajectory import sample
from mira_pl.types import Compute


def test_a_linear_reward_shifts_normal_data() -> None:
    """p(x) exp(scale slope x) is N(scale slope, 1), and the guided prediction is that model's own: bit for bit but
    for rounding, the same images from the same noise."""
    problem, noise, start = posed(gaussian(steps=12), Linear(slope=0.5), 3)
    found = DPS(scale=3.0).solve(problem, noise, start, 0)
    moved = gaussian(steps=12)
    moved.means = torch.zeros(1, 3, 1, 1)
    moved.means[0, 0] = 1.5
    expected = sample(moved, problem.condition, noise).images
    torch.testing.assert_close(found.outcome.trajectory.images, expected, atol=1e-4, rtol=1e-4)


def test_the_first_step_of_a_flow_is_the_samplers_own() -> None:
    """All others are those of the model of the moved data, and the one that is left alone costs no gradient."""
    problem, noise, start = posed(flow(steps=12), Linear(slope=0.5), 3)
    moved, before = flow(steps=12), problem.backbone.spent
    found = DPS(scale=3.0).solve(problem, noise, start, 0)
    assert problem.backbone.spent - before == Compute(unet=12, vae=12, backward=11)
    moved.means = torch.zeros(1, 3, 1, 1)
    moved.means[0, 0] = 1.5
    x = noise[:, -1]
    for step in range(12):
        model = problem.backbone if step == 0 else moved
        x = transition(model.predict(x, step, problem.condition), moved.schedule, step).sample(noise[:, 11 - step])
    torch.testing.assert_close(found.outcome.trajectory.images, x, atol=1e-4, rtol=1e-4)


def test_through_the_decoder_alone_it_is_not_for_flows() -> None:
    DPS(through="decoder").check(gaussian(steps=3), Brightness())
    DPS().check(flow(steps=3), Brightness())
    with pytest.raises(ValueError, match=r"begins at abar = 0, as flows do: set model\.search\.through to denoiser"):
        DPS(through="decoder").check(flow(steps=3), Brightness())


def test_the_gradient_passes_the_denoiser_or_it_does_not() -> None:
    """x_0 as predicted is sqrt(abar) x; with the prediction held constant its slope is 1 / sqrt(abar)."""
    problem, noise, _ = posed(gaussian(steps=5), Linear(slope=2.0))
    alpha = problem.backbone.schedule.alpha[1]
    for through, slope in (("denoiser", alpha**0.5), ("decoder", alpha**-0.5)):
        eps, _, pull, reward, gradient = ascent(problem, noise[:, -1], 1, through)
        torch.testing.assert_close(gradient[:, 0], (2.0 * slope).expand_as(gradient[:, 0]), atol=1e-4, rtol=1e-4)
        assert (gradient[:, 1:] == 0).all() and (pull == 0).all() and not eps.requires_grad
        torch.testing.assert_close(reward, 2.0 * alpha**0.5 * noise[:, -1, 0, 0, 0], atol=1e-4, rtol=1e-4)


def test_it_works_without_noise_but_then_no_noise_draws_the_image() -> None:
    problem, noise, start = posed(gaussian(steps=5, eta=0.0), Linear())
    found = DPS().solve(problem, noise, start, 0)
    assert (found.outcome.reward > start.reward).all()
    assert torch.isfinite(found.outcome.trajectory.images).all() and not torch.isfinite(found.noise).all()


def test_no_strength_is_refused() -> None:
    with pytest.raises(ValueError, match="scale must be greater than 0, got 0"):
        DPS(scale=0.0)
