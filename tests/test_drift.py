"""Every reading of the drift against its formula, written out as a loop."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mira_pl.backbones.analytic import MixtureBackbone
from mira_pl.diffusion import transition
from mira_pl.drift import Measure, Penalty, ScoreDifference, ScoreEnergy, denoising_loss, penalise, surrogate
from mira_pl.noise import draw
from mira_pl.trajectory import sample
from mira_pl.types import Job, Noise

JOBS = [Job("", 1, "a"), Job("", 2, "b")]
STEPS = 6
FORMS = {"signed": 1, "reversed": 1, "abs": 1, "squared": 2, "hinge": 1}  # degree of homogeneity
finite = st.floats(-1e3, 1e3, allow_nan=False, width=32)


def mixture(eta: float = 1.0) -> MixtureBackbone:
    means = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    return MixtureBackbone(means, torch.tensor([0.5, 0.9]), torch.tensor([0.4, 0.6]), steps=STEPS, eta=eta)


def walk(backbone: MixtureBackbone, noise: Noise) -> list[tuple[float, float, Tensor, Tensor, Tensor, Tensor]]:
    """(abar, sigma, eps, x_prev, mean, noise) of every step, without the code under test."""
    x, visited = noise[:, STEPS], []
    for step in range(STEPS):
        prediction = backbone.predict(x, step, backbone.encode(["", ""]))
        gaussian, eps = transition(prediction, backbone.schedule, step), prediction.eps
        injected = noise[:, STEPS - 1 - step]
        x = gaussian.mean + gaussian.std * injected
        visited.append((float(backbone.schedule.alpha[step]), float(gaussian.std), eps, x, gaussian.mean, injected))
    return visited


def energy(backbone: MixtureBackbone, noise: Noise, measure: Measure) -> Tensor:
    return sample(backbone, backbone.encode(["", ""]), noise, [measure]).energies[0]


def mean_square(values: Tensor) -> Tensor:
    return (values**2).mean(dim=(1, 2, 3))


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weights", ["marginal", "ddim"])
def test_network_energy_is_the_sum_of_eq_4(weights: str, eta: float) -> None:
    backbone = mixture(eta)
    noise = draw(JOBS, backbone.noise_shape).double()
    expected = torch.zeros(2, dtype=torch.float64)
    for alpha, sigma, eps, *_ in walk(backbone, noise):
        score = -eps / math.sqrt(1 - alpha)
        expected += (1 - alpha if weights == "marginal" else sigma**2) * mean_square(score)
    torch.testing.assert_close(energy(backbone, noise, ScoreEnergy("network", weights)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weights", ["marginal", "ddim"])
def test_transition_energy_is_the_sum_of_eq_23(weights: str) -> None:
    backbone = mixture()
    noise = draw(JOBS, backbone.noise_shape).double()
    expected = torch.zeros(2, dtype=torch.float64)
    for alpha, sigma, _, x_prev, mean, _ in walk(backbone, noise):
        score = -(x_prev - mean) / sigma**2
        expected += (1 - alpha if weights == "marginal" else sigma**2) * mean_square(score)
    torch.testing.assert_close(
        energy(backbone, noise, ScoreEnergy("transition", weights)), expected, rtol=1e-5, atol=1e-6
    )


def test_transition_score_with_its_own_variance_is_the_norm_of_the_noise() -> None:
    """sigma^2 ||s||^2 = ||noise||^2: eq. 22-23 never look at the network."""
    backbone = mixture()
    noise = draw(JOBS, backbone.noise_shape).double()
    measured = energy(backbone, noise, ScoreEnergy("transition", "ddim"))
    torch.testing.assert_close(measured, (noise[:, :STEPS] ** 2).mean(dim=(2, 3, 4)).sum(dim=1))
    leaf = noise.clone().requires_grad_()
    energy(backbone, leaf, ScoreEnergy("transition", "ddim")).sum().backward()
    torch.testing.assert_close(leaf.grad[:, :STEPS], 2 * noise[:, :STEPS] / noise[0, 0].numel())
    assert (leaf.grad[:, STEPS] == 0).all()


@pytest.mark.parametrize("weights", ["marginal", "ddim"])
def test_steps_without_noise_have_no_transition_energy(weights: str) -> None:
    backbone = mixture(eta=0.0)
    measured = energy(backbone, draw(JOBS, backbone.noise_shape), ScoreEnergy("transition", weights))
    assert torch.equal(measured, torch.zeros(2))


def test_score_difference_is_a_sum_over_two_paths() -> None:
    backbone = mixture()
    start, moved = (draw(jobs, backbone.noise_shape).double() for jobs in (JOBS, JOBS[::-1]))
    anchor = sample(backbone, backbone.encode(["", ""]), start, keep_eps=True)
    expected = sum(
        mean_square(z[2] - z0[2]) for z, z0 in zip(walk(backbone, moved), walk(backbone, start), strict=True)
    )
    torch.testing.assert_close(energy(backbone, moved, ScoreDifference(anchor.eps)), expected)


@pytest.mark.parametrize("form", FORMS)
def test_drift_is_zero_at_the_starting_noise(form: Penalty) -> None:
    backbone = mixture()
    noise = draw(JOBS, backbone.noise_shape)
    anchor = sample(backbone, backbone.encode(["", ""]), noise, [ScoreEnergy()], keep_eps=True)
    drift = surrogate(anchor.energies[0], energy(backbone, noise, ScoreEnergy()))
    assert torch.equal(penalise(drift, form), torch.zeros(2))
    assert torch.equal(energy(backbone, noise, ScoreDifference(anchor.eps)), torch.zeros(2))


@given(st.lists(finite, min_size=1, max_size=5), st.sampled_from(sorted(FORMS)))
def test_forms(values: list[float], form: Penalty) -> None:
    drift = torch.tensor(values, dtype=torch.float64)
    expected = {
        "signed": drift,
        "reversed": -drift,
        "abs": drift.abs(),
        "squared": drift**2,
        "hinge": drift.clamp(min=0),
    }
    penalty = penalise(drift, form)
    assert torch.equal(penalty, expected[form])
    assert form in ("signed", "reversed") or (penalty >= 0).all()
    torch.testing.assert_close(penalise(3 * drift, form), 3 ** FORMS[form] * penalty)


@given(finite, finite)
def test_surrogate_is_antisymmetric(start: float, now: float) -> None:
    anchor, energy = torch.tensor([start]), torch.tensor([now])
    assert torch.equal(surrogate(anchor, energy), -surrogate(energy, anchor))


def test_denoising_loss_prefers_what_the_model_likes() -> None:
    """Data N(mu, s^2 I): the mean, samples, and ever farther points, in that order."""
    mean = torch.full((1, 3, 2, 2), 0.5)
    backbone = MixtureBackbone(mean, torch.tensor([0.3]), torch.ones(1))
    steps = torch.tensor([0.0, 0.3, 1.0, 3.0]).view(-1, 1, 1, 1)
    points = mean + steps * torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0)).sign()
    losses = _loss(backbone, points, 16)
    assert (losses.diff() > 0).all()
    assert torch.equal(_loss(backbone, points[2:3], 16), losses[2:3])


def test_denoising_loss_is_a_mean_over_fixed_pairs() -> None:
    backbone, x0 = mixture(), torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    expected = torch.zeros(2)
    for index, timestep in enumerate((125, 375, 625, 875)):
        noise = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(index))
        alpha = backbone.scheduler.alphas_cumprod[timestep]
        eps = backbone.denoise(
            alpha**0.5 * x0 + (1 - alpha) ** 0.5 * noise, torch.full((2,), timestep), backbone.encode(["", ""])
        )
        expected += mean_square(eps - noise) / 4
    torch.testing.assert_close(_loss(backbone, x0, 4), expected)


def test_denoising_loss_has_a_gradient_towards_the_data() -> None:
    backbone = MixtureBackbone(torch.zeros(1, 3, 2, 2), torch.tensor([0.3]), torch.ones(1))
    x0 = torch.full((1, 3, 2, 2), 2.0, requires_grad=True)
    _loss(backbone, x0, 8).sum().backward()
    assert (x0.grad > 0).all()


def _loss(backbone: MixtureBackbone, x0: Tensor, pairs: int) -> Tensor:
    condition = backbone.encode([""] * len(x0))
    return denoising_loss(lambda x, timestep: backbone.denoise(x, timestep, condition), backbone.alpha, x0, pairs)
