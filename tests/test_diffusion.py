"""The reverse transition is diffusers' DDIM to the bit, and its Gaussian is the one of the textbook."""

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st

from mira_pl.backbones.analytic import sd_scheduler
from mira_pl.diffusion import Gaussian, Schedule, from_noise, from_velocity, transition

SHAPE = (2, 4, 3, 3)


def schedule(steps: int, eta: float = 1.0, last_sigma: str = "keep") -> Schedule:
    return Schedule.from_scheduler(sd_scheduler(), steps, eta, last_sigma)


def randn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*(shape or SHAPE), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 7, 10, 50, 100, 999])
def test_transition_is_ddim_step_bit_for_bit(steps: int, eta: float) -> None:
    theirs, ours = sd_scheduler(), schedule(steps, eta)
    theirs.set_timesteps(steps)
    assert ours.timesteps == tuple(theirs.timesteps.tolist())
    x = randn(0)
    for step, timestep in enumerate(theirs.timesteps):
        eps, noise = randn(2 * step + 1), randn(2 * step + 2)
        expected = theirs.step(eps, timestep, x, eta=eta, variance_noise=noise)
        prediction = from_noise(x, eps, ours.alpha[step])
        x_prev = transition(prediction, ours, step).sample(noise)
        assert torch.equal(x_prev, expected.prev_sample), f"step {step}"
        assert torch.equal(prediction.x0, expected.pred_original_sample), f"step {step}"
        x = x_prev


@pytest.mark.parametrize("eta", [0.0, 0.5])  # at eta 1 rounding makes diffusers' first step nan
def test_velocity_is_ddim_step_bit_for_bit_even_from_pure_noise(eta: float) -> None:
    """Zero terminal SNR (Lin et al. 2023): abar is 0 at the first step, where the noise alone says nothing of x_0."""
    options = {"clip_sample": False, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    theirs = DDIMScheduler(rescale_betas_zero_snr=True, **options)
    ours = Schedule.from_scheduler(theirs, 10, eta)
    theirs.set_timesteps(10)
    assert ours.alpha[0] == 0
    x = randn(0)
    for step, timestep in enumerate(theirs.timesteps):
        v, noise = randn(2 * step + 1), randn(2 * step + 2)
        expected = theirs.step(v, timestep, x, eta=eta, variance_noise=noise)
        prediction = from_velocity(x, v, ours.alpha[step])
        x = transition(prediction, ours, step).sample(noise)
        assert torch.equal(x, expected.prev_sample), f"step {step}"
        assert torch.equal(prediction.x0, expected.pred_original_sample), f"step {step}"


def test_transition_is_ddim_step_with_alpha_of_one_at_the_end() -> None:
    theirs = DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
    ours = Schedule.from_scheduler(theirs, 10, 1.0)
    theirs.set_timesteps(10)
    x, eps, noise = randn(0), randn(1), randn(2)
    for step, timestep in enumerate(theirs.timesteps):
        expected = theirs.step(eps, timestep, x, eta=1.0, variance_noise=noise).prev_sample
        assert torch.equal(transition(from_noise(x, eps, ours.alpha[step]), ours, step).sample(noise), expected)


@pytest.mark.parametrize(
    ("steps", "golden"),
    [
        (
            50,
            {981: 0.45446, 961: 0.44828, 941: 0.44206, 741: 0.3775, 481: 0.2877, 241: 0.2002, 21: 0.03948, 1: 0.02065},
        ),
        (100, {991: 0.33419, 981: 0.33183, 971: 0.32946, 491: 0.2117, 11: 0.0378}),
    ],
)
def test_sigma_golden_values(steps: int, golden: dict[int, float]) -> None:
    """Of the public DNO code."""
    ours = schedule(steps)
    for timestep, sigma in golden.items():
        digits = len(str(sigma)) - 2
        assert round(float(ours.sigmas[ours.timesteps.index(timestep)]), digits) == sigma


@pytest.mark.parametrize(("steps", "golden"), [(50, 4.63031), (100, 4.99071)])
def test_sum_of_variances_with_and_without_the_last_step(steps: int, golden: float) -> None:
    kept, cut = schedule(steps), schedule(steps, last_sigma="zero")
    total = sum(float(kept.sigmas[step]) ** 2 for step in range(steps))
    assert total == pytest.approx(golden, abs=6e-6)
    assert sum(float(cut.sigmas[step]) ** 2 for step in range(steps)) == pytest.approx(
        total - float(kept.sigmas[steps - 1]) ** 2
    )


def test_alpha_golden_values() -> None:
    assert float(schedule(50).alpha[0]) == pytest.approx(0.005775, abs=5e-7)
    assert float(schedule(100).alpha[0]) == pytest.approx(0.005130, abs=5e-7)
    assert float(schedule(50).alpha_prev[-1]) == pytest.approx(0.999150, abs=5e-7)


def test_last_sigma_zero_ends_in_the_mean() -> None:
    cut, kept = schedule(10, last_sigma="zero"), schedule(10)
    assert cut.sigmas[9] == 0 < kept.sigmas[9]
    assert all(torch.equal(cut.sigmas[step], kept.sigmas[step]) for step in range(9))
    last = transition(from_noise(randn(0), randn(1), cut.alpha[9]), cut, 9)
    assert torch.equal(last.sample(randn(2)), last.mean)


def test_deterministic_sampling_injects_nothing() -> None:
    assert all(schedule(10, eta=0.0).sigmas[step] == 0 for step in range(10))


def test_one_step_of_gaussian_data_is_the_closed_form() -> None:
    """Data N(0, I), eps = sqrt(1 - abar) x: x_prev is linear in x (in closed form)."""
    ours, x, noise = schedule(20), randn(0).double(), randn(1).double()
    for step in range(20):
        alpha, alpha_prev, sigma = (
            float(v[step]) for v in (ours.alpha, ours.alpha_prev, [ours.sigmas[s] for s in range(20)])
        )
        slope = (alpha * alpha_prev) ** 0.5 + (1 - alpha_prev - sigma**2) ** 0.5 * (1 - alpha) ** 0.5
        prediction = from_noise(x, (1 - alpha) ** 0.5 * x, ours.alpha[step])
        x_prev = transition(prediction, ours, step).sample(noise)
        torch.testing.assert_close(x_prev, slope * x + sigma * noise, atol=1e-6, rtol=1e-5)


@given(st.floats(0.01, 3.0), st.integers(0, 100))
def test_log_prob_is_that_of_torch(std: float, seed: int) -> None:
    mean, x = randn(seed), randn(seed + 1)
    gaussian = Gaussian(mean, torch.tensor(std))
    expected = torch.distributions.Normal(mean, std).log_prob(x).flatten(1)
    torch.testing.assert_close(gaussian.log_prob(x), expected.sum(dim=1))
    torch.testing.assert_close(gaussian.log_prob(x, reduction="mean"), expected.mean(dim=1))


def test_score_is_the_gradient_of_the_log_density() -> None:
    gaussian = Gaussian(randn(0).double(), torch.tensor(0.7))
    x = randn(1).double().requires_grad_()
    (gradient,) = torch.autograd.grad(gaussian.log_prob(x).sum(), x)
    torch.testing.assert_close(gaussian.score(x.detach()), gradient)


@pytest.mark.parametrize("ask", [Gaussian.log_prob, Gaussian.score])
def test_a_density_needs_noise(ask) -> None:
    with pytest.raises(ValueError, match=r"its std is 0: use a sampler with noise"):
        ask(Gaussian(randn(0), torch.zeros(())), randn(1))


@pytest.mark.parametrize(
    ("steps", "eta", "message"),
    [
        (0, 1.0, r"steps must be in 1\.\.999, got 0"),
        (1000, 1.0, "got 1000"),
        (10, -0.1, r"eta must be in \[0, 1\], got -0\.1"),
        (10, 1.5, "got 1.5"),
    ],
)
def test_impossible_grids_are_refused(steps: int, eta: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedule(steps, eta)
