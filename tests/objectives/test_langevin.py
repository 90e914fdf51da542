"""The walk keeps N(0, I) where the reward is flat, and tilts it by the reward's slope otherwise."""

import math

import pytest
import torch
from torch import Tensor, nn

from mira_pl.noise import redraw
from mira_pl.objectives import DNO, Langevin
from mira_pl.objectives.langevin import LangevinDynamics
from mira_pl.types import Job

JOBS = [Job("a", 1, "a"), Job("b", 2, "b"), Job("c", 3, "c")]


def walk(noise: Tensor, slope: float, steps: int, jobs: list[Job] = JOBS, **options: float | None) -> Tensor:
    """Where the dynamics of a reward with this constant slope stand after some steps."""
    leaf = nn.Parameter(noise.clone())
    optimizer = LangevinDynamics(leaf, jobs, **{"step": 0.3, "drive": 0.8, "limit": None, **options})
    for _ in range(steps):
        leaf.grad = torch.full_like(leaf, -slope)
        optimizer.step()
    return leaf.detach()


def typical(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("step", [0.05, 0.3, 1.0])
def test_a_flat_reward_leaves_standard_normal_noise(step: float) -> None:
    noise = walk(typical(3, 2, 4, 64, 64), 0.0, 20, step=step)
    standard_error = (2 / noise.numel()) ** 0.5
    assert abs(float(noise.square().mean()) - 1) < 4 * standard_error
    assert abs(float(noise.mean())) < 4 / noise.numel() ** 0.5


def test_noise_of_another_size_comes_back_to_standard_normal() -> None:
    """v_k = 1 + (1 - step)^k (v_0 - 1)."""
    noise = walk(3 * typical(3, 2, 4, 64, 64), 0.0, 4, step=0.3)
    assert float(noise.square().mean()) == pytest.approx(1 + 0.7**4 * 8, rel=0.03)


def test_a_slope_tilts_the_noise_and_leaves_its_variance() -> None:
    """The fixed point m = sqrt(1 - gamma) m + eta gamma a; for small steps it is 2 eta a, that of exp(2 eta a z)."""
    noise = walk(typical(3, 2, 4, 32, 32), 0.5, 60, step=0.2, drive=0.9)
    assert float(noise.mean()) == pytest.approx(0.9 * 0.2 * 0.5 / (1 - math.sqrt(0.8)), abs=0.03)
    assert float(noise.var()) == pytest.approx(1, abs=0.04)
    small = 0.9 * 0.001 * 0.5 / (1 - math.sqrt(0.999))
    assert small == pytest.approx(2 * 0.9 * 0.5, rel=1e-3)


def test_the_update_is_that_of_the_public_code() -> None:
    noise = typical(3, 1, 2, 2, 2)
    first = 0.7**0.5 * noise + 0.8 * 0.3 * 0.2 + 0.3**0.5 * redraw(JOBS, (1, 2, 2, 2), "langevin", 0)
    torch.testing.assert_close(walk(noise, 5.0, 1, limit=0.2), first)


def test_injected_noise_belongs_to_job_and_iteration() -> None:
    noise = typical(3, 1, 2, 2, 2)
    together = walk(noise, 0.1, 3)
    for row, job in enumerate(JOBS):
        assert torch.equal(together[row : row + 1], walk(noise[row : row + 1], 0.1, 3, [job]))
    flat = torch.zeros(3, 1, 2, 2, 2)
    once, twice = walk(flat, 0.0, 1), walk(flat, 0.0, 2)
    assert not torch.allclose(twice, 0.7**0.5 * once + once)


def test_it_goes_on_from_its_saved_state() -> None:
    whole, half = walk(typical(3, 1, 2, 2, 2), 0.1, 4), walk(typical(3, 1, 2, 2, 2), 0.1, 2)
    first = LangevinDynamics(nn.Parameter(half), JOBS, 0.3, 0.8, None)
    first.load_state_dict({**first.state_dict(), "state": {0: {"tick": 2}}})
    leaf = first.param_groups[0]["params"][0]
    for _ in range(2):
        leaf.grad = torch.full_like(leaf, -0.1)
        first.step()
    assert torch.equal(leaf.detach(), whole)
    assert first.state_dict()["state"] == {0: {"tick": 4}}


def test_it_has_an_update_of_its_own_and_dno_has_none() -> None:
    leaf = nn.Parameter(torch.zeros(3, 1, 2, 2, 2))
    assert isinstance(Langevin().optimizer(leaf, JOBS), LangevinDynamics)
    assert DNO().optimizer(leaf, JOBS) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 0.0}, r"step must be in \(0, 1\], got 0\.0"),
        ({"step": 1.5}, r"step must be in \(0, 1\], got 1\.5"),
        ({"drive": -1.0}, r"drive must be at least 0, got -1\.0"),
        ({"limit": 0.0}, r"limit must be greater than 0, got 0\.0"),
    ],
)
def test_impossible_parameters_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Langevin(**options)
