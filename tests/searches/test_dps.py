"""DPS where it is exact: data N(0, 1) and a linear reward."""

import pytest
import torch
from closed_form import Linear, gaussian, posed

from mira_pl.searches import DPS
from mira_pl.searches.guidance import ascent
from mira_pl.trajectory import sample


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
