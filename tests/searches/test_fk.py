"""FK steering against the tilted law, which is known for a linear chain of Gaussians and for a mixture."""

from dataclasses import replace

import pytest
import torch
from closed_form import Linear, flow, gaussian, modes, moments, posed, rare_share, swarm_of, variance

from mira_pl.backbones.base import Backbone
from mira_pl.noise import draw
from mira_pl.searches import FK, MIRAFK
from mira_pl.searches.fk import Steered
from mira_pl.searches.resampling import normalised
from mira_pl.trajectory import sample

POTENTIALS = ["max", "diff", "add", "rt"]


def tilted(search: FK, backbone: Backbone, count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Final values and weights, [k, b]."""
    problem, noise, start = posed(backbone, Linear(), count)
    state, _, _, _ = search.steer(swarm_of(problem, start), noise, 0)
    return state.x[:, :, 0, 0, 0], normalised(state.log_weight)


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize(("potential", "tilt"), [("max", 0.7), ("diff", 0.7), ("add", 0.3), ("rt", 0.7)])
def test_every_potential_tends_to_the_tilted_law(potential: str, tilt: float, adaptive: bool) -> None:
    """N(tilt v, v), v the variance of the discrete chain; few particles have too small a variance.

    Means without the weights would be 14 % off. `add` tilts hard on the way and needs more particles.
    """
    backbone = gaussian(steps=25)
    v = variance(backbone.schedule)
    (_, few), (mean, spread) = (
        moments(*tilted(FK(particles, potential, tilt, adaptive=adaptive), backbone, count=24))
        for particles in (16, 512)
    )
    assert few < 0.9 * v
    assert mean == pytest.approx(tilt * v, rel=0.08)
    assert spread == pytest.approx(v, rel=0.06)


def test_the_chains_variance_is_below_1() -> None:
    """And the ones noted for the schedule of Stable Diffusion are met."""
    found = [variance(gaussian(steps).schedule) for steps in (50, 100, 200)]
    assert found == pytest.approx([0.894, 0.944, 0.969], abs=4e-3)


def test_the_public_codes_weights_do_not_steer_where_it_resamples_adaptively() -> None:
    backbone = gaussian(steps=25)
    ours, legacy = FK(256, "diff", 1.0), FK(256, "diff", 1.0, legacy_weights=True)
    assert moments(*tilted(ours, backbone))[0] == pytest.approx(variance(backbone.schedule), abs=0.15)
    values, weights = tilted(legacy, backbone)
    assert abs(moments(values, torch.full_like(weights, 1 / 256))[0]) < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("potential", ["max", "diff", "add"])
def test_mode_weights_of_a_mixture_are_those_of_the_tilt(potential: str) -> None:
    values, weights = tilted(FK(512, potential, 0.5), modes())
    found = float((weights * (values > 0)).sum(dim=0).mean())
    assert found == pytest.approx(rare_share(tilt=0.5), abs=0.08)


@pytest.mark.parametrize("potential", ["max", "diff"])
def test_on_a_flow_too(potential: str) -> None:
    """Whose first step knows nothing of x_0."""
    backbone = flow(steps=25)
    assert backbone.schedule.alpha[0] == 0
    v = variance(backbone.schedule)
    mean, spread = moments(*tilted(FK(512, potential, 0.7), backbone))
    assert mean == pytest.approx(0.7 * v, abs=0.12)
    assert spread == pytest.approx(v, abs=0.15)


@pytest.mark.parametrize("potential", POTENTIALS)
@pytest.mark.parametrize("legacy", [False, True])
def test_a_constant_reward_leaves_the_base_sampler(potential: str, legacy: bool) -> None:
    problem, noise, start = posed(gaussian(steps=10), Linear(slope=0.0))
    swarm = swarm_of(problem, start)
    state, images, _, ess = FK(4, potential, legacy_weights=legacy).steer(swarm, noise, 0)
    assert torch.equal(ess, torch.full((2,), 4.0))
    torch.testing.assert_close(normalised(state.log_weight), torch.full((4, 2), 0.25, dtype=torch.float64))
    for particle, z in enumerate(swarm.noises(noise, 0, 4)):
        path = sample(problem.backbone, problem.condition, z)
        torch.testing.assert_close(images[particle], path.images)


def test_one_particle_is_the_start() -> None:
    problem, noise, start = posed(gaussian(steps=10), Linear())
    found = FK(1).solve(problem, noise, start, 0)
    assert torch.equal(found.outcome.trajectory.images, start.trajectory.images)
    assert torch.equal(found.noise, noise) and torch.equal(noise, draw(problem.jobs, problem.backbone.noise_shape))


def test_looks_are_those_of_the_public_launch_file() -> None:
    assert FK().looks(100) == {20, 40, 60, 80, 99}
    assert FK().looks(20) == {4, 8, 12, 16, 19}
    assert FK(first=0.05, every=0.05, until=0.3).looks(100) == {5, 10, 15, 20, 25, 30, 99}
    assert FK(first=1.0, until=0.0).looks(10) == {9}


@pytest.mark.parametrize("potential", POTENTIALS)
def test_all_potentials_multiply_to_the_tilt_of_the_last_reward(potential: str) -> None:
    """Telescoping: whatever was seen on the way, a particle that is never resampled ends with exp(tilt r(x_0))."""
    search = FK(3, potential, tilt=2.0)
    problem, noise, start = posed(gaussian(steps=4), Linear())
    swarm = swarm_of(problem, start)
    state = search.begin(swarm.begin(swarm.noises(noise, 0, 3)))
    rewards = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0))
    for number, reward in enumerate(rewards):
        state = search.weigh(state, reward, number == 4)
    expected = 2.0 * (rewards[-1] - rewards[-1, :1])
    torch.testing.assert_close(state.log_weight - state.log_weight[:1], expected, atol=1e-5, rtol=1e-5)


def test_the_public_codes_weights_forget() -> None:
    search = FK(2, "diff", tilt=1.0, legacy_weights=True)
    problem, noise, start = posed(gaussian(steps=4), Linear(), 1)
    swarm = swarm_of(problem, start)
    state = search.begin(swarm.begin(swarm.noises(noise, 0, 2)))
    for reward in ([[1.0], [0.0]], [[1.5], [0.0]]):
        state = search.weigh(state, torch.tensor(reward), False)
        state = search.resampled(state, torch.tensor([[0], [1]]), torch.tensor([False]))
    assert state.log_weight.flatten().tolist() == [0.5, 0.0]


def test_rewards_below_zero_count_but_in_the_public_code() -> None:
    """Its floor of 0 under `max` makes all rewards below 0 alike."""
    problem, noise, start = posed(gaussian(steps=4), Linear(), 1)
    swarm = swarm_of(problem, start)
    spreads = []
    for legacy in (False, True):
        search = FK(2, "max", legacy_weights=legacy)
        state: Steered = search.begin(swarm.begin(swarm.noises(noise, 0, 2)))
        weighed = search.weigh(state, torch.tensor([[-1.0], [-2.0]]), False)
        spreads.append(float(weighed.log_weight[0] - weighed.log_weight[1]))
    assert spreads == [10.0, 0.0]


def test_weights_of_the_public_code_end_at_1e10() -> None:
    """At its lambda of 10 and aesthetic scores above 2.3 all particles weigh the same."""
    problem, noise, start = posed(gaussian(steps=4), Linear(), 1)
    swarm, rewards = swarm_of(problem, start), torch.tensor([[5.0], [5.2], [5.4], [5.6]])
    for legacy, spread in ((False, 6.0), (True, 0.0)):
        search = FK(4, "max", legacy_weights=legacy)
        weighed = search.weigh(search.begin(swarm.begin(swarm.noises(noise, 0, 4))), rewards, False)
        assert float(weighed.log_weight[-1] - weighed.log_weight[0]) == pytest.approx(spread, abs=1e-4)
    assert float(weighed.log_weight.exp()[0]) == pytest.approx(1e10, rel=1e-4)


def test_the_last_look_is_at_the_image_itself() -> None:
    problem, noise, start = posed(gaussian(steps=5), Linear())
    state, images, reward, _ = FK(4).steer(swarm_of(problem, start), noise, 0)
    assert torch.equal(images, state.x) and torch.equal(reward, state.x[:, :, 0, 0, 0])


@pytest.mark.parametrize("potential", POTENTIALS)
def test_no_drift_weight_is_plain_fk_bit_for_bit(potential: str) -> None:
    problem, noise, start = posed(gaussian(steps=10), Linear())
    plain = FK(4, potential).solve(problem, noise, start, 0)
    hybrid = MIRAFK(4, potential, beta=0.0).solve(problem, noise, start, 0)
    assert torch.equal(plain.noise, hybrid.noise) and torch.equal(plain.merit, hybrid.merit)


def test_the_hybrids_merit_is_miras_objective() -> None:
    problem, noise, start = posed(gaussian(steps=10), Linear())
    found = MIRAFK(4, beta=0.7).solve(problem, noise, start, 0)
    path = found.outcome.trajectory
    drift = start.trajectory.energies[0] - path.energies[0]
    torch.testing.assert_close(found.merit, found.outcome.reward - 0.7 * drift)
    assert (drift.abs() > 1e-3).all()


def test_the_hybrids_drift_is_that_of_the_steps_made() -> None:
    """On the way, S of a particle and S_0 of the start are sums over the same steps: at the start's own path, 0."""
    problem, noise, start = posed(gaussian(steps=10), Linear())
    swarm, search = swarm_of(problem, start), MIRAFK(1, beta=1.0)
    fresh = swarm.noises(noise, 0, 1)
    state = swarm.begin(fresh)
    for step in range(10):
        state = swarm.advance(state, swarm.predict(state.x, step), step, fresh[:, :, 9 - step])
        merit = search.merit(torch.zeros(1, 2), state, swarm)
        torch.testing.assert_close(merit, torch.zeros(1, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"particles": 0}, "particles must be greater than 0, got 0"),
        ({"tilt": -1.0}, r"tilt must be greater than 0, got -1\.0"),
        ({"first": 20.0}, r"first must be in 0\.\.1, got 20\.0"),
        ({"threshold": float("nan")}, "threshold must be a finite number, got nan"),
        ({"threshold": -1.0}, r"threshold must be in 0\.\.1, got -1\.0"),
    ],
)
def test_impossible_parameters_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FK(**options)
    with pytest.raises(ValueError, match="beta must be at least 0, got -1"):
        replace(MIRAFK(), beta=-1.0)
