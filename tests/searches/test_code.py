"""CoDe: the cached look-ahead gives what a second prediction gives, and blocks do what they say."""

from collections.abc import Callable

import pytest
import torch
from closed_form import Linear, flow, gaussian, modes, posed, swarm_of

from mira_pl.backbones.base import Backbone
from mira_pl.diffusion import transition
from mira_pl.problem import Problem
from mira_pl.searches import CoDe
from mira_pl.types import Noise


def uncached(problem: Problem, fresh: torch.Tensor, block: int) -> torch.Tensor:
    """x_0 of one job by the algorithm as the public code runs it: a prediction to look ahead, and another to step."""
    backbone, steps = problem.backbone, problem.backbone.schedule.steps
    x = fresh[0, :, -1].repeat(len(fresh), 1, 1, 1)
    condition = problem.condition.repeat(len(fresh))
    for step in range(steps):
        seen = backbone.predict(x, step, condition)
        x = transition(seen, backbone.schedule, step).sample(fresh[:, 0, steps - 1 - step])
        last = step == steps - 1
        if last or (step + 1) % block == 0:
            clean = x if last else backbone.predict(x, step + 1, condition).x0
            best = problem.reward.score(backbone.decode(clean), problem.prompts * len(fresh)).argmax()
            x = x[best : best + 1].repeat(len(fresh), 1, 1, 1)
    return x[0]


def posed_one(backbone: Backbone) -> tuple[Problem, Noise, torch.Tensor, object]:
    problem, noise, start = posed(backbone, Linear(), 1)
    return problem, noise, swarm_of(problem, start).noises(noise, 0, 4), start


@pytest.mark.parametrize("kind", [gaussian, flow])
@pytest.mark.parametrize("block", [1, 2, 3, 4, 7])
def test_the_cached_look_ahead_is_the_uncached_one(block: int, kind: Callable[..., Backbone]) -> None:
    problem, noise, fresh, start = posed_one(kind(7))
    found = CoDe(candidates=4, block=block).solve(problem, noise, start, 0)
    torch.testing.assert_close(found.outcome.trajectory.latents[0], uncached(problem, fresh, block))


def test_smaller_blocks_climb_higher() -> None:
    problem, noise, start = posed(gaussian(steps=24), Linear(), 50)
    means = [
        float(CoDe(candidates=4, block=block).solve(problem, noise, start, 0).merit.mean()) for block in (1, 4, 24)
    ]
    assert means[0] > means[1] > means[2]


def test_greedy_search_collapses_to_the_mode_of_higher_reward() -> None:
    """Where a tilted law would leave both."""
    problem, noise, start = posed(modes(steps=24), Linear(), 50)
    x = CoDe(candidates=8, block=1).solve(problem, noise, start, 0).outcome.trajectory.latents[:, 0, 0, 0]
    assert float((start.trajectory.latents[:, 0, 0, 0] > 0).float().mean()) < 0.4
    assert float((x > 0).float().mean()) > 0.95


def test_all_candidates_start_from_one_x_t() -> None:
    problem, noise, start = posed(gaussian(steps=4), Linear())
    search = CoDe(candidates=3, block=2)
    assert torch.equal(search.solve(problem, noise, start, 0).noise[:, -1], noise[:, -1])
    assert not torch.equal(search.solve(problem, noise, start, 1).noise[:, -1], noise[:, -1])


@pytest.mark.parametrize("options", [{"candidates": 0}, {"block": 0}])
def test_impossible_parameters_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be greater than 0, got 0"):
        CoDe(**options)
