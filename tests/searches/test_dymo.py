"""DyMO: how long its steps are, and how it travels back."""

import pytest
import torch
from closed_form import GuidedFlow, GuidedMixture, Linear, posed

from mira_pl.diffusion import Prediction, transition
from mira_pl.searches import DyMO
from mira_pl.searches.guidance import ascent

Guided = GuidedMixture | GuidedFlow


def backbone(steps: int = 6, eta: float = 1.0, kind: type[Guided] = GuidedMixture) -> Guided:
    means = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    return kind(means, torch.tensor([0.5, 0.9]), torch.tensor([0.4, 0.6]), steps=steps, eta=eta)


@pytest.mark.parametrize("kind", [GuidedMixture, GuidedFlow])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_steps_up_the_reward_are_as_long_as_those_of_guidance(eta: float, kind: type[Guided]) -> None:
    problem, noise, start = posed(backbone(eta=eta, kind=kind), Linear(slope=100.0))
    x, schedule = noise[:, -1], problem.backbone.schedule
    for step in range(6):
        eps, clean, pull, _, gradient = ascent(problem, x, step)
        plain = transition(Prediction(eps, clean), schedule, step).sample(noise[:, 5 - step])
        length = 0.7 * pull.flatten(1).norm(dim=1) / gradient.flatten(1).norm(dim=1)
        x = plain if step < 3 else plain + length.view(-1, 1, 1, 1) * gradient
    found = DyMO(scale=0.7, first=0.5, repeats=0).solve(problem, noise, start, 0)
    torch.testing.assert_close(found.outcome.trajectory.latents, x, atol=1e-4, rtol=1e-4)


def test_the_scale_of_the_reward_is_of_no_matter() -> None:
    found = []
    for slope in (1.0, 1000.0):
        problem, noise, start = posed(backbone(), Linear(slope=slope))
        found.append(DyMO().solve(problem, noise, start, 0).outcome.trajectory.images)
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


def test_a_constant_reward_leaves_the_start() -> None:
    problem, noise, start = posed(backbone(), Linear(slope=0.0))
    found = DyMO(repeats=0).solve(problem, noise, start, 0)
    assert torch.equal(found.outcome.trajectory.images, start.trajectory.images)


def test_travelling_back_keeps_the_noise_level() -> None:
    """Of N(0, 1) data x_prev has variance near 1, and so has what is noised again from it."""
    problem, noise, start = posed(backbone(steps=6), Linear(), 500)
    from closed_form import swarm_of

    search, swarm = DyMO(), swarm_of(problem, start)
    fresh = swarm.noises(noise, 0, 1)
    before = swarm.begin(fresh)
    schedule = problem.backbone.schedule
    clean = torch.zeros_like(before.x)
    after = swarm.moved(before, (1 - schedule.alpha_prev[0]) ** 0.5 * before.x - before.x, 1.0)
    z = torch.randn(clean.shape, generator=torch.Generator().manual_seed(3))
    back = search.travel(swarm, before, after, 0, z)
    assert float(back.x.var()) == pytest.approx(float(1 - schedule.alpha[0]), abs=0.03)
    torch.testing.assert_close(back.noise[:, :, -1], back.x)  # booked as x_T, from which it would be drawn


@pytest.mark.parametrize("options", [{"repeats": -1}, {"first": 2.0}])
def test_impossible_parameters_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="repeats must be at least 0 and first in"):
        DyMO(**options)
