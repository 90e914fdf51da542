"""DAS against the tilted law of a linear chain of Gaussians, and what the public code's resampling does to it."""

import math
from collections.abc import Callable

import pytest
import torch
from closed_form import Linear, Near, flow, gaussian, modes, moments, posed, rare_share, swarm_of, variance

from mira_pl.backbones.base import Backbone
from mira_pl.diffusion import Gaussian
from mira_pl.rewards.base import Reward
from mira_pl.searches import DAS
from mira_pl.searches.particles import Predicted
from mira_pl.searches.resampling import normalised

ALPHA, STEPS = 0.25, 40


def law(search: DAS, jobs: int = 6, kind: Callable[[int], Backbone] = gaussian) -> tuple[float, float]:
    """Weighted mean and variance of the final particles."""
    problem, noise, start = posed(kind(STEPS), Near(), jobs)
    state, _, _, _ = search.steer(swarm_of(problem, start), noise, 0)
    return moments(state.x[:, :, 0, 0, 0], normalised(state.log_weight))


def exact(alpha: float, kind: Callable[[int], Backbone] = gaussian) -> tuple[float, float]:
    """N(0, v) times exp(-(x - 1.5)^2 / (2 alpha))."""
    spread = 1 / (1 / variance(kind(STEPS).schedule) + 1 / alpha)
    return 1.5 * spread / alpha, spread


@pytest.mark.parametrize("scheme", ["ssp", "multinomial", "systematic"])
def test_it_tends_to_the_tilted_law(scheme: str) -> None:
    (_, few), (mean, spread) = (
        law(DAS(particles, ALPHA, resampling=scheme, chunk=512), jobs=12) for particles in (16, 512)
    )
    assert few < 0.85 * exact(ALPHA)[1]
    assert mean == pytest.approx(exact(ALPHA)[0], rel=0.03)
    assert spread == pytest.approx(exact(ALPHA)[1], rel=0.08)


def test_mode_weights_of_a_mixture_are_those_of_the_tilt() -> None:
    problem, noise, start = posed(modes(), Linear(), 12)
    state, _, _, _ = DAS(512, alpha=2.0, chunk=512).steer(swarm_of(problem, start), noise, 0)
    found = float((normalised(state.log_weight) * (state.x[:, :, 0, 0, 0] > 0)).sum(dim=0).mean())
    assert found == pytest.approx(rare_share(tilt=0.5), abs=0.08)


def test_on_a_flow_too() -> None:
    """Whose first step knows nothing of x_0."""
    mean, spread = law(DAS(512, ALPHA, chunk=512), kind=flow)
    assert mean == pytest.approx(exact(ALPHA, flow)[0], abs=0.04)
    assert spread == pytest.approx(exact(ALPHA, flow)[1], rel=0.12)


def test_the_public_codes_resampling_tends_to_another_law() -> None:
    """More particles bring the variance nearer, but with the public code's resampling farther away."""
    truth = exact(0.1)[1]
    ours, legacy = (
        [law(DAS(count, 0.1, legacy=legacy, chunk=512), 12)[1] / truth for count in (64, 512)]
        for legacy in (False, True)
    )
    assert 0.5 < ours[0] < ours[1] < 1.05 and ours[1] > 0.75
    assert legacy[1] < 0.85 * legacy[0] < 0.75 and legacy[1] < 0.5


@pytest.mark.parametrize(("reward", "alpha"), [(Linear(), 1.0), (Near(), 0.25)])
def test_the_mean_weight_is_the_normalising_constant(reward: Reward, alpha: float) -> None:
    """E exp(r / alpha) under N(0, v), without bias as long as nothing is resampled."""
    backbone = gaussian(steps=20)
    v = variance(backbone.schedule)
    near = math.sqrt(alpha / (v + alpha)) * math.exp(-(1.5**2) / (2 * (v + alpha)))
    expected = near if isinstance(reward, Near) else math.exp(v / (2 * alpha**2))
    problem, noise, start = posed(backbone, reward, 64)
    state, _, _, _ = DAS(64, alpha, threshold=1e-9, chunk=64).steer(swarm_of(problem, start), noise, 0)
    assert float(state.log_weight.double().exp().mean()) == pytest.approx(expected, rel=0.04)


def test_temperatures_are_the_public_ones() -> None:
    """gamma 0.008 for 100 steps: 0, .220, .489, .818 at the quarters, 1 from step 87 on; 0.1 for 8: .949 at last."""
    found = DAS().temperatures(100)
    assert [found[step] for step in (0, 25, 50, 75)] == pytest.approx([0, 0.220, 0.489, 0.818], abs=2e-3)
    assert found[86] < 1 and found[88] == 1 and len(found) == 101
    assert DAS(tempered=0.909).temperatures(8)[7] == pytest.approx(1.1**7 - 1, abs=1e-3)


def test_weights_of_a_proposal_are_p_over_q() -> None:
    """The closed form against the densities of both Gaussians."""
    problem, noise, start = posed(gaussian(8), Near())
    swarm, search = swarm_of(problem, start), DAS(3, ALPHA)
    fresh = swarm.noises(noise, 0, 3)
    state = search.look(swarm, search.begin(swarm.begin(fresh)), 0, [0.3] * 9)
    before, z = state.log_weight, fresh[:, :, 7]
    after = search.propose(swarm, state, 0, z)
    sigma, mean = swarm.schedule.sigmas[0], swarm.mean(Predicted(state.eps, state.x0), 0)
    for particle in range(3):
        p = Gaussian(mean[particle].double(), sigma.double())
        q = Gaussian((mean[particle] + sigma**2 * state.guidance[particle]).double(), sigma.double())
        x = after.x[particle].double()
        expected = p.log_prob(x, "sum") - q.log_prob(x, "sum")
        torch.testing.assert_close((after.log_weight - before)[particle].double(), expected, atol=1e-4, rtol=1e-3)
    assert (state.guidance != 0).any()


def test_guidance_is_the_gradient_at_the_next_temperature() -> None:
    """x_0 as predicted for N(0, 1) is sqrt(abar) x, so the gradient of a linear reward is known."""
    problem, noise, start = posed(gaussian(8), Linear(slope=2.0))
    swarm, search = swarm_of(problem, start), DAS(3, ALPHA)
    state = search.look(swarm, search.begin(swarm.begin(swarm.noises(noise, 0, 3))), 2, [0.0, 0.1, 0.2, 0.5])
    alpha = swarm.schedule.alpha[2]
    expected = torch.zeros_like(state.guidance)
    expected[:, :, 0] = 0.5 * 2.0 * alpha**0.5 / ALPHA
    torch.testing.assert_close(state.guidance, expected, atol=1e-4, rtol=1e-4)
    twist = 0.2 * 2.0 * alpha**0.5 * state.x[:, :, 0, 0, 0] / ALPHA
    torch.testing.assert_close(state.twist, twist, atol=1e-4, rtol=1e-4)


def test_a_constant_reward_leaves_the_weights_even() -> None:
    problem, noise, start = posed(gaussian(8), Linear(slope=0.0))
    state, images, _, ess = DAS(4).steer(swarm_of(problem, start), noise, 0)
    assert torch.equal(ess, torch.full((2,), 4.0)) and (state.log_weight == 0).all()
    torch.testing.assert_close(images[0], start.trajectory.images)


@pytest.mark.parametrize("legacy", [False, True])
def test_survivors_keep_what_is_theirs(legacy: bool) -> None:
    problem, noise, start = posed(gaussian(8), Near(), 1)
    swarm, search = swarm_of(problem, start), DAS(4, ALPHA, legacy=legacy)
    state = search.look(swarm, search.begin(swarm.begin(swarm.noises(noise, 0, 4))), 0, [0.5] * 9)
    weights = torch.tensor([[0.0], [0.0], [1.0], [0.0]], dtype=torch.float64)
    after = search.resampled(swarm, state, weights, torch.tensor([True]), 0, 0)
    assert torch.equal(after.x, state.x[2:3].expand_as(state.x)) and (after.log_weight == 0).all()
    for name in ("guidance", "twist"):
        mine, before = getattr(after, name), getattr(state, name)
        assert torch.equal(mine, before if legacy else before[2:3].expand_as(before))


def test_the_particle_of_greatest_weight_is_returned() -> None:
    problem, noise, start = posed(gaussian(8), Near(), 3)
    search = DAS(6, ALPHA)
    state, images, _, _ = search.steer(swarm_of(problem, start), noise, 0)
    found, best = search.solve(problem, noise, start, 0), state.log_weight.argmax(dim=0)
    for job, particle in enumerate(best.tolist()):
        torch.testing.assert_close(found.outcome.trajectory.images[job], images[particle, job])
    assert torch.equal(found.merit, found.outcome.reward)


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha must be greater than 0, got 0"):
        DAS(alpha=0.0)
    with pytest.raises(ValueError, match=r"threshold must be in 0\.\.1, got 2"):
        DAS(threshold=2.0)
