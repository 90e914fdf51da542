"""Particles: everything that belongs to one moves with it."""

from dataclasses import fields

import pytest
import torch
from closed_form import Linear, gaussian, posed, swarm_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mira_pl.drift import ScoreEnergy
from mira_pl.searches.das import Tempered
from mira_pl.searches.fk import Steered
from mira_pl.searches.particles import Particles, counted
from mira_pl.types import Compute

KINDS = [Particles, Steered, Tempered]
SHAPES = dict.fromkeys(("x", "eps", "x0", "guidance"), (3, 1, 1)) | {"noise": (4, 3, 1, 1), "energies": (2,)}


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, 5), st.integers(1, 3), st.integers(1, 7), st.randoms())
def test_resampling_moves_all_of_a_particle(kind: type, count: int, jobs: int, kept: int, random) -> None:
    state = kind(**{f.name: torch.randn(count, jobs, *SHAPES.get(f.name, ())) for f in fields(kind)})
    ancestors = torch.tensor([[random.randrange(count) for _ in range(jobs)] for _ in range(kept)])
    after = state.index(ancestors)
    for part in fields(kind):
        before, moved = getattr(state, part.name), getattr(after, part.name)
        for row in range(kept):
            for job in range(jobs):
                assert torch.equal(moved[row, job], before[ancestors[row, job], job]), part.name


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(4)))
def test_order_is_a_matter_of_names(order: list[int]) -> None:
    """A permutation, then a step, is the step, then the permutation."""
    problem, noise, start = posed(gaussian(steps=3), Linear())
    swarm = swarm_of(problem, start)
    fresh = swarm.noises(noise, 1, 4)
    state, ancestors = swarm.begin(fresh), torch.tensor(order)[:, None].expand(4, 2)

    def stepped(state: Particles, z: torch.Tensor) -> Particles:
        return swarm.advance(state, swarm.predict(state.x, 0), 0, z, 0.1 * state.x)

    z = fresh[:, :, 2]
    first, second = stepped(state, z).index(ancestors), stepped(state.index(ancestors), z[order])
    for part in fields(Particles):
        torch.testing.assert_close(getattr(first, part.name), getattr(second, part.name))


def test_one_particle_is_the_sampler_itself_bit_for_bit() -> None:
    problem, noise, start = posed(gaussian(steps=4), Linear())
    swarm = swarm_of(problem, start)
    fresh = swarm.noises(noise, 0, 1)
    state = swarm.begin(fresh)
    for step in range(4):
        state = swarm.advance(state, swarm.predict(state.x, step), step, fresh[:, :, 3 - step])
    assert torch.equal(state.x[0], start.trajectory.latents)
    assert torch.equal(state.noise[0].flip(1), noise)
    assert torch.equal(state.energies[0, :, 0], start.trajectory.energies[0])
    assert (state.energies[0, :, 1] == 0).all()
    measured = problem.attempt(noise, [ScoreEnergy()]).trajectory.energies[0]
    assert torch.equal(state.energies[0, :, 0], measured)


def test_first_particle_of_round_0_has_the_jobs_noise_and_all_others_their_own() -> None:
    problem, noise, start = posed(gaussian(steps=3), Linear())
    swarm = swarm_of(problem, start)
    first, second = swarm.noises(noise, 0, 3), swarm.noises(noise, 1, 3)
    assert torch.equal(first[0], noise)
    drawn = torch.cat([first, second]).flatten(0, 1).flatten(1)
    assert torch.cdist(drawn, drawn).fill_diagonal_(1.0).min() > 0.1


def test_a_shift_that_no_noise_makes_is_told() -> None:
    problem, noise, start = posed(gaussian(steps=3, eta=0.0), Linear())
    swarm = swarm_of(problem, start)
    fresh = swarm.noises(noise, 0, 1)
    state = swarm.begin(fresh)
    eps = swarm.predict(state.x, 0)
    still = swarm.advance(state, eps, 0, fresh[:, :, 2], torch.zeros_like(state.x))
    assert torch.isfinite(still.noise).all()
    assert not torch.isfinite(swarm.advance(state, eps, 0, fresh[:, :, 2], torch.ones_like(state.x)).noise).all()


def test_calls_on_many_images_count_for_each() -> None:
    backbone = gaussian(steps=3)
    with counted(backbone, 5):
        backbone.eps(torch.zeros(10, 3, 1, 1), 0, backbone.encode([""] * 10))
        backbone.decode(torch.zeros(10, 3, 1, 1))
    assert backbone.spent == Compute(unet=5, vae=5)


def test_a_start_without_its_predictions_is_refused() -> None:
    problem, noise, _ = posed(gaussian(steps=3), Linear())
    start = problem.attempt(noise, [ScoreEnergy()])
    with pytest.raises(ValueError, match="sample it with keep_eps"):
        swarm_of(problem, start).measures(0, 1)
