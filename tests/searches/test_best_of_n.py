"""Best-of-N: its expected maximum, and its relation to CoDe."""

import pytest
import torch
from closed_form import Linear, gaussian, posed, variance

from mira_pl.searches import BestOfN, CoDe

EXPECTED = {2: 0.5642, 4: 1.0294, 8: 1.4236}  # of the greatest of so many standard normal numbers


@pytest.mark.parametrize("count", sorted(EXPECTED))
def test_the_best_reward_is_that_of_the_greatest_of_n_normals(count: int) -> None:
    problem, noise, start = posed(gaussian(steps=10), Linear(), 400)
    search = BestOfN(candidates=count)
    rewards = torch.stack([search.solve(problem, noise, start, n).outcome.reward for n in range(search.rounds)])
    spread = variance(problem.backbone.schedule) ** 0.5
    assert float(rewards.max(dim=0).values.mean()) == pytest.approx(EXPECTED[count] * spread, abs=0.15)


def test_first_candidate_is_the_start_and_costs_nothing_more() -> None:
    problem, noise, start = posed(gaussian(steps=5), Linear())
    before = problem.backbone.spent
    found = BestOfN(candidates=4).solve(problem, noise, start, 0)
    assert problem.backbone.spent == before
    assert torch.equal(found.outcome.trajectory.images, start.trajectory.images) and torch.equal(found.noise, noise)
    assert (found.outcome.trajectory.energies[1] == 0).all()


def test_starts_are_independent_or_shared() -> None:
    problem, noise, start = posed(gaussian(steps=5), Linear())
    alone, shared = (BestOfN(4, kind).solve(problem, noise, start, 2).noise for kind in ("independent", "shared"))
    assert torch.equal(shared[:, -1], noise[:, -1]) and not torch.equal(alone[:, -1], noise[:, -1])
    assert torch.equal(shared[:, :-1], alone[:, :-1]) and not torch.equal(alone[:, :-1], noise[:, :-1])


@pytest.mark.parametrize("count", [1, 5])
def test_code_with_one_block_is_best_of_n_with_a_shared_start(count: int) -> None:
    problem, noise, start = posed(gaussian(steps=6), Linear(), 4)
    search = BestOfN(count, "shared")
    candidates = [search.solve(problem, noise, start, n) for n in range(count)]
    best = torch.stack([found.merit for found in candidates]).argmax(dim=0)
    blockwise = CoDe(candidates=count, block=6).solve(problem, noise, start, 0)
    for job, winner in enumerate(best.tolist()):
        expected = candidates[winner].outcome.trajectory
        torch.testing.assert_close(blockwise.outcome.trajectory.images[job], expected.images[job])
        torch.testing.assert_close(blockwise.noise[job], candidates[winner].noise[job])
        torch.testing.assert_close(blockwise.outcome.trajectory.energies[:, job], expected.energies[:, job])


def test_no_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="candidates must be greater than 0, got 0"):
        BestOfN(candidates=0)
