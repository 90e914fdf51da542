"""A rectified flow is the chain that all else samples: diffusers' Euler steps, exact marginals, true gradients."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mira_pl.backbones import FlowMixture
from mira_pl.diffusion import from_noise, from_velocity, transition
from mira_pl.drift import Measure, ScoreDifference, ScoreEnergy, denoising_loss
from mira_pl.flow import flow_schedule, from_flow, signal_share, to_flow, training_levels
from mira_pl.noise import draw
from mira_pl.trajectory import Engine, sample
from mira_pl.types import Job

SHAPE = (2, 4, 3, 3)
JOBS = [Job("", 1, "a"), Job("", 2, "b")]
MODELS: dict[str, dict[str, Any]] = {
    "sd3": {"shift": 3.0},
    "flux dev": {"shift": 3.0, "use_dynamic_shifting": True},
    "flux schnell": {"shift": 1.0},
}


def randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*(shape or SHAPE), generator=torch.Generator().manual_seed(seed))


def mixture(steps: int = 5, eta: float = 1.0, side: int = 2) -> FlowMixture:
    return FlowMixture(
        randn(0, 2, 3, side, side), torch.tensor([0.5, 0.9]), torch.tensor([0.4, 0.6]), steps=steps, eta=eta
    )


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("steps", [1, 4, 28, 100])
def test_without_noise_it_is_eulers_method(model: str, steps: int) -> None:
    """Within float32's rounding of abar near the image, where 1 - abar is 1e-4."""
    theirs = FlowMatchEulerDiscreteScheduler(**MODELS[model])
    times = None if model == "sd3" else np.linspace(1.0, 1 / steps, steps).tolist()  # as FLUX is sampled
    mu = calculate_shift(1024) if theirs.config.use_dynamic_shifting else None
    theirs.set_timesteps(steps, sigmas=times, mu=mu)
    scheduler = FlowMatchEulerDiscreteScheduler(**MODELS[model])
    ours = flow_schedule(scheduler, steps, 0.0, tokens=1024, times=times)
    assert ours.timesteps == tuple(theirs.timesteps.tolist()) and not ours.stochastic
    assert ours.alpha[0] == 0 and ours.alpha_prev[-1] == 1
    x = expected = randn(0)
    for step, timestep in enumerate(theirs.timesteps):
        torch.testing.assert_close(to_flow(x, ours.alpha[step]), expected, atol=1e-5, rtol=1e-5)
        v = randn(step + 1)
        expected = theirs.step(v, timestep, expected).prev_sample
        x = transition(from_flow(x, v, ours.alpha[step]), ours, step).mean
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=1e-5)


@given(st.one_of(st.just(0.0), st.floats(0.01, 1)), st.integers(0, 100))
def test_a_velocity_gives_both_parts_at_every_level(s: float, seed: int) -> None:
    x0, eps, alpha = randn(seed), randn(seed + 1), signal_share(torch.tensor([s], dtype=torch.float64)).float()[0]
    x = alpha**0.5 * x0 + (1 - alpha) ** 0.5 * eps
    prediction = from_flow(x, eps - x0, alpha)
    torch.testing.assert_close(prediction.x0, x0, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(prediction.eps, eps, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(to_flow(x, alpha), (1 - s) * x0 + s * eps, atol=2e-5, rtol=1e-5)


@given(st.floats(0.05, 0.95), st.integers(0, 100))
def test_the_three_things_a_model_can_predict_say_the_same(s: float, seed: int) -> None:
    """A flow's v is the velocity of the rescaled latents, (1 - 2s) x + n v, and the noise n x + (1 - s) v."""
    x, v, n = randn(seed).double(), randn(seed + 1).double(), math.hypot(1 - s, s)
    alpha = torch.tensor((1 - s) ** 2 / n**2, dtype=torch.float64)
    flow = from_flow(x, v, alpha)
    for other in (from_velocity(x, (1 - 2 * s) * x + n * v, alpha), from_noise(x, n * x + (1 - s) * v, alpha)):
        torch.testing.assert_close(flow.x0, other.x0)
        torch.testing.assert_close(flow.eps, other.eps)


def test_the_first_step_from_pure_noise_is_exact() -> None:
    ours, x, v = flow_schedule(FlowMatchEulerDiscreteScheduler(shift=3.0), 1, 0.0, tokens=1), randn(0), randn(1)
    assert torch.equal(transition(from_flow(x, v, ours.alpha[0]), ours, 0).mean, x - v)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_every_step_ends_at_its_noise_level_whatever_is_injected(eta: float) -> None:
    """From x made of known parts, x_prev has mean sqrt(abar') x_0 and variance 1 - abar' over eps and the noise."""
    ours = flow_schedule(FlowMatchEulerDiscreteScheduler(shift=3.0), 20, eta, tokens=1)
    assert ours.stochastic == (eta > 0)
    one = torch.ones(1, 1, 1, 1)
    for step in range(20):
        after, signal = ours.alpha_prev[step], ours.alpha[step] ** 0.5
        noise = (1 - ours.alpha[step]) ** 0.5
        of_x0 = transition(from_flow(signal * one, -one, ours.alpha[step]), ours, step)  # x_0 = 1, eps = 0
        of_eps = transition(from_flow(noise * one, one, ours.alpha[step]), ours, step)  # x_0 = 0, eps = 1
        torch.testing.assert_close(of_x0.mean, after**0.5 * one, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(of_eps.mean**2 + of_x0.std**2, (1 - after) * one, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_eta_is_a_share_of_ancestral_noise(eta: float) -> None:
    """Karras et al. 2022 in t = s / (1 - s): std^2 = t'^2 (t^2 - t'^2) / t^2, which is t'^2 from pure noise."""
    ours = flow_schedule(FlowMatchEulerDiscreteScheduler(shift=3.0), 20, eta, tokens=1)
    times = [t / 1000 for t in ours.timesteps] + [0.0]
    for step, (s, after) in enumerate(pairwise(times)):
        ratio, kept = after / (1 - after), 1 - (after / (1 - after) * (1 - s) / s) ** 2
        expected = eta * ratio * kept**0.5 * float(ours.alpha_prev[step]) ** 0.5
        assert float(ours.sigmas[step]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("steps", "eta", "message"), [(0, 0.0, r"1\.\.1000, got 0"), (4, 1.5, r"\[0, 1\], got 1\.5")])
def test_impossible_grids_are_refused(steps: int, eta: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flow_schedule(FlowMatchEulerDiscreteScheduler(), steps, eta, tokens=1)


def test_training_levels_run_from_data_to_noise() -> None:
    levels = training_levels()
    assert levels[0] == 1 and levels[500] == 0.5 and levels[1000] == 0 and (levels.diff() < 0).all()


@pytest.mark.parametrize("s", [0.02, 0.4, 0.98])
def test_the_exact_velocity_is_that_of_the_score(s: float) -> None:
    """eps = -s score of the mixture that x_s is drawn from, and x_s = (1 - s) x_0 + s eps."""
    backbone, x = mixture(), randn(3, 5, 3, 2, 2).double().requires_grad_()
    spread = (((1 - s) * backbone.stds.double()) ** 2 + s**2).sqrt().view(-1, 1, 1, 1)
    parts = torch.distributions.Normal((1 - s) * backbone.means.double(), spread)
    log_density = torch.logsumexp(parts.log_prob(x[:, None]).flatten(2).sum(2) + backbone.weights.double().log(), dim=1)
    (score,) = torch.autograd.grad(log_density.sum(), x)
    eps = -s * score
    v = backbone.velocity(x.detach(), torch.full((5,), s, dtype=torch.float64))
    torch.testing.assert_close(v, eps - (x.detach() - s * eps) / (1 - s), atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_the_ode_carries_noise_to_a_gaussian_in_a_straight_map() -> None:
    """Data N(mu, std^2): x_0 = mu + std x_T, up to the step size."""
    mean, std = randn(0, 1, 3, 2, 2), torch.tensor([0.4])
    noise = randn(1, 50, 401, 3, 2, 2)
    errors = []
    for steps in (100, 400):
        backbone = FlowMixture(mean, std, torch.ones(1), steps=steps, eta=0.0)
        latents = sample(backbone, backbone.encode([""] * 50), noise[:, -steps - 1 :]).latents
        errors.append((latents - mean - std * noise[:, -1]).abs().max())
    assert errors[1] < 0.02 and 3 < errors[0] / errors[1] < 5


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@torch.no_grad()
def test_samples_have_the_mean_the_variance_and_the_weights_of_the_data(eta: float) -> None:
    """4000 draws: three standard errors, and 0.01 for the 200 steps."""
    count, steps = 4000, 200
    means = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1).contiguous()
    weights, stds = torch.tensor([0.3, 0.7]), torch.tensor([0.2, 0.4])
    backbone = FlowMixture(means, stds, weights, steps=steps, eta=eta)
    latents = sample(backbone, backbone.encode([""] * count), randn(1, count, steps + 1, 3, 1, 1)).latents
    of_second = latents.mean(dim=(1, 2, 3)) > 0
    assert abs(float(of_second.float().mean()) - 0.7) < 3 * (0.7 * 0.3 / count) ** 0.5 + 0.01
    for k, of_k in enumerate((latents[~of_second], latents[of_second])):
        error = 3 * float(stds[k]) / of_k.numel() ** 0.5
        assert abs(float(of_k.mean()) - float(means[k, 0])) < error + 0.01
        assert abs(float(of_k.std()) - float(stds[k])) < error + 0.01


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_score_energy_in_flow_variables(eta: float) -> None:
    """sum_s ||x_s + (1 - s) v||^2, on a walk of the flow's own latents with its own Euler steps and noise."""
    backbone = mixture(steps=6, eta=eta)
    noise = draw(JOBS, backbone.noise_shape).double()
    measured = sample(backbone, backbone.encode(["", ""]), noise, [ScoreEnergy()]).energies[0]
    times = [t / 1000 for t in backbone.schedule.timesteps] + [0.0]
    x, expected = noise[:, 6], torch.zeros(2, dtype=torch.float64)
    for step, (s, after) in enumerate(pairwise(times)):
        v = backbone.velocity(x, torch.full((2,), s, dtype=torch.float64))
        eps, x0 = x + (1 - s) * v, x - s * v
        expected += (eps**2).mean(dim=(1, 2, 3))
        injected = float(backbone.schedule.sigmas[step]) * math.hypot(1 - after, after)  # sigma on the flow's scale
        x = (1 - after) * x0 + max(0.0, after**2 - injected**2) ** 0.5 * eps + injected * noise[:, 5 - step]
    torch.testing.assert_close(measured, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("engine", [Engine("full"), Engine("checkpoint", 1), Engine("walk", 1)])
@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_gradient_equals_finite_differences(engine: Engine, eta: float) -> None:
    backbone = mixture(steps=3, eta=eta, side=1)
    start = draw(JOBS[1:], backbone.noise_shape).double()
    anchor = sample(backbone, backbone.encode([""]), start, keep_eps=True)
    measures: list[Measure] = [ScoreEnergy(), ScoreEnergy("network", "ddim"), ScoreDifference(anchor.eps)]

    def outputs(noise: Tensor) -> tuple[Tensor, Tensor]:
        path = sample(backbone, backbone.encode([""]), noise, measures, engine)
        return (path.images**3).sum(), path.energies

    noise = draw(JOBS[:1], backbone.noise_shape).double().requires_grad_()
    assert torch.autograd.gradcheck(outputs, (noise,), eps=1e-6, atol=1e-7, rtol=1e-5)


def test_engines_give_the_same_gradient_bit_for_bit() -> None:
    backbone, gradients = mixture(eta=0.5), []
    for engine in (Engine("full"), Engine("checkpoint"), Engine("walk", 2)):
        noise = draw(JOBS, backbone.noise_shape).double().requires_grad_()
        path = sample(backbone, backbone.encode(["", ""]), noise, [ScoreEnergy()], engine)
        ((path.images**3).sum() + path.energies.sum()).backward()
        gradients.append(noise.grad)
    assert torch.equal(gradients[0], gradients[1]) and torch.equal(gradients[0], gradients[2])
    assert (gradients[0][:, 1:] != 0).all()  # the last step ends at the data and injects nothing


def test_denoising_loss_is_the_flow_matching_loss_with_the_weight_of_the_noise() -> None:
    """eps' - eps = (1 - s) (v' - v)."""
    backbone, x0 = mixture(), randn(1, 2, 3, 2, 2)
    condition = backbone.encode(["", ""])
    expected = torch.zeros(2)
    for index, timestep in enumerate((125, 375, 625, 875)):
        s, noise = timestep / 1000, randn(index, 3, 2, 2)
        v = backbone.velocity((1 - s) * x0 + s * noise, torch.full((2,), s))
        expected += (1 - s) ** 2 * ((v - (noise - x0)) ** 2).mean(dim=(1, 2, 3)) / 4
    loss = denoising_loss(lambda x, t: backbone.denoise(x, t, condition), backbone.alpha, x0, 4)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-4)
