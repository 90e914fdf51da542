"""The drift ends at its budget, for every job and every measure, and the controller is what it says."""

from functools import cache

import pytest
import torch
from torch import Tensor

from mira_pl.backbones.analytic import MixtureBackbone
from mira_pl.objectives import DNO, DriftBudget, Objective
from mira_pl.objectives.drift_budget import STATE
from mira_pl.problem import Problem
from mira_pl.rewards import Brightness
from mira_pl.trajectory import Engine, Trajectory
from mira_pl.types import Job

JOBS = [Job("a", 1, "a"), Job("b", 2, "b")]


def problem(jobs: list[Job] = JOBS) -> Problem:
    means = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    backbone = MixtureBackbone(means, torch.tensor([0.5, 0.9]), torch.tensor([0.4, 0.6]), steps=5)
    return Problem.of(backbone, Brightness(), jobs, Engine("full"))


def run(objective: Objective, iterations: int = 60) -> dict[str, list[Tensor]]:
    """AdamW (0.01) with the gradient of every job clipped at 1: reward, both drifts, and the weight, by iteration."""
    posed, anchor, memory = problem(), None, {}
    noise = objective.start(JOBS, posed.backbone.noise_shape).requires_grad_()
    optimizer = torch.optim.AdamW([noise], lr=0.01, weight_decay=0.01)
    seen: dict[str, list[Tensor]] = {"reward": [], "score_difference": [], "energy": [], "elbo": [], "beta": []}
    for tick in range(iterations + 1):
        loss = objective.loss(posed, noise, anchor, tick, memory)
        path: Trajectory = loss.outcome.trajectory.detach()
        anchor, memory = anchor or path, {name: value.detach() for name, value in loss.memory.items()}
        seen["reward"].append(loss.outcome.reward.detach())
        seen["score_difference"].append(path.energies[1] if tick else torch.zeros(2))
        seen["energy"].append((anchor.energies[0] - path.energies[0]).abs())
        with torch.no_grad():
            seen["elbo"].append(posed.denoising_loss(path.latents, 4))
        seen["beta"].append(memory.get("beta", torch.zeros(2)))
        optimizer.zero_grad()
        loss.value.sum().backward()
        noise.grad /= noise.grad.flatten(1).norm(dim=1).clamp(min=1).view(-1, 1, 1, 1, 1)
        optimizer.step()
    seen["elbo"] = [value - seen["elbo"][0] for value in seen["elbo"]]
    return seen


@cache
def unbounded(iterations: int = 60) -> dict[str, list[Tensor]]:
    """Plain reward ascent."""
    return run(DNO(), iterations)


@pytest.mark.parametrize(
    ("drift", "budget", "iterations"),
    [("score_difference", 0.2, 60), ("score_difference", 0.6, 60), ("energy", 0.5, 100), ("elbo", 0.02, 60)],
)
def test_the_drift_ends_at_the_budget(drift: str, budget: float, iterations: int) -> None:
    found, free = run(DriftBudget(budget, drift, elbo_pairs=4), iterations), unbounded(iterations)
    assert (free[drift][-1] > 1.5 * budget).all()
    torch.testing.assert_close(found[drift][-1], torch.full((2,), budget), rtol=0.05, atol=0)
    assert (found["reward"][-1] > found["reward"][0]).all()
    assert (found["beta"][0] == 0).all() and (found["beta"][-1] > 0).all()
    assert not torch.allclose(*found["beta"][-1])  # every job's own


def test_a_larger_budget_buys_more_reward() -> None:
    small, large = (run(DriftBudget(budget))["reward"][-1] for budget in (0.1, 0.5))
    free = unbounded()["reward"][-1]
    assert (small < large).all() and (large < free).all()


def test_a_budget_out_of_reach_is_plain_reward_ascent() -> None:
    found, free = run(DriftBudget(1e6), 5), run(DNO(), 5)
    assert all(torch.equal(a, b) for a, b in zip(found["reward"], free["reward"], strict=True))
    assert not any(beta.any() for beta in found["beta"])


def test_the_controller_in_numbers() -> None:
    """Twice the budget and rising: the violation is cut off at 0.5; under it: it falls, not below 0."""
    objective = DriftBudget(2.0, rate=0.1, damping=3.0, ahead=1.0)
    zero = torch.zeros(1)
    memory = dict.fromkeys(STATE, zero) | {"dual": zero + 0.2, "gain": zero + 4, "last_drift": zero + 3}
    above = objective.control(memory, zero + 1, zero + 4)
    assert float(above["dual"]) == pytest.approx(0.2 + 0.1 * 0.5)
    assert float(above["beta"]) == pytest.approx((0.25 + 3 * 0.5) * 4 / 2)
    below = objective.control(memory, zero + 6, zero + 2.4)  # (2.4 - 0.6) / 2 - 1 = -0.1
    assert float(below["dual"]) == pytest.approx(0.2 - 0.01)
    assert float(below["gain"]) == 6 and float(below["beta"]) == 0
    assert float(below["last_drift"]) == pytest.approx(2.4)


def test_the_loss_is_the_reward_and_the_weighted_drift() -> None:
    objective, posed = DriftBudget(0.01), problem()
    noise = objective.start(JOBS, posed.backbone.noise_shape)
    first = objective.loss(posed, noise, None, 0)
    anchor = first.outcome.trajectory.detach()
    loss = objective.loss(posed, noise + 0.2, anchor, 1, first.memory)
    drift = loss.outcome.trajectory.energies[1]
    assert (loss.memory["beta"] > 0).all()
    torch.testing.assert_close(loss.value, -loss.outcome.reward + loss.memory["beta"] * drift)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0.0}, r"budget must be greater than 0, got 0\.0"),
        ({"budget": 1.0, "rate": -1.0}, r"rate must be at least 0, got -1\.0"),
    ],
)
def test_impossible_parameters_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DriftBudget(**options)
