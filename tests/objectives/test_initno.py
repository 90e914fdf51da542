"""InitNO: its loss on maps whose regions are known, its bounded update, and its rounds on a tiny model."""

from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from mira_pl.backbones import StableDiffusion
from mira_pl.backbones.analytic import MixtureBackbone
from mira_pl.noise import draw
from mira_pl.objectives import InitNO
from mira_pl.objectives.attention_loss import attention_loss, connected, otsu, overlap, smooth, spill
from mira_pl.objectives.initno import Adam, fresh, kl, objects, shifted
from mira_pl.problem import Problem
from mira_pl.rewards import Brightness, JPEGSize
from mira_pl.types import Job

JOBS = [Job("a cat and a dog", 1, "a"), Job("a red fox", 2, "b"), Job("a bird with a crown", 3, "c")]
SHORT = InitNO(rounds=2, steps=3, last_steps=4)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def problem(tiny_sd: Path) -> Problem:
    return Problem.of(StableDiffusion(str(tiny_sd), steps=3), JPEGSize(), JOBS)


# The loss.


def test_a_smoothed_map_has_the_weights_of_the_public_kernel() -> None:
    point = torch.zeros(1, 5, 5)
    point[0, 2, 2] = 1
    (found,) = smooth(point)
    assert float(found[2, 3] / found[2, 2]) == pytest.approx(np.exp(-1), rel=1e-5)
    assert float(found[3, 3] / found[2, 2]) == pytest.approx(np.exp(-2), rel=1e-5)
    torch.testing.assert_close(smooth(torch.full((2, 4, 4), 0.3)), torch.full((2, 4, 4), 0.3))


def test_overlap_is_a_half_for_one_region_and_0_for_two() -> None:
    left, right = torch.zeros(4, 4), torch.zeros(4, 4)
    left[:, :2], right[:, 2:] = 0.1, 0.2
    assert float(overlap(torch.stack([left, left]))) == pytest.approx(0.5, abs=1e-5)
    assert float(overlap(torch.stack([left, right]))) == 0
    three = float(overlap(torch.stack([left, left, right])))
    assert three == pytest.approx(0.5 / 3, abs=1e-5)
    assert float(overlap(left[None])) == 0


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.floats(0.1, 1.0))
def test_otsu_splits_with_the_most_variance_between_the_classes(seed: int, power: float) -> None:
    one = torch.rand(6, 6, generator=torch.Generator().manual_seed(seed)) ** (1 / power)
    levels = (one * 255).long().numpy()

    def between(threshold: int) -> float:
        low, high = levels[levels <= threshold], levels[levels > threshold]
        return low.size * high.size * (low.mean() - high.mean()) ** 2 if low.size and high.size else 0.0

    best = max(between(threshold) for threshold in range(256))
    assert between(round(otsu(one) * 255)) == pytest.approx(best, rel=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(0, 35))
def test_connected_is_the_labelled_part(seed: int, pixel: int) -> None:
    mask = torch.rand(6, 6, generator=torch.Generator().manual_seed(seed)) < 0.6
    labels = scipy.ndimage.label(mask.numpy())[0]
    label = labels.flat[pixel]
    assert np.array_equal(connected(mask, pixel).numpy(), (labels == label) & (label > 0))


def test_a_second_island_is_spilt() -> None:
    ground = torch.linspace(0, 0.2, 36).view(6, 6)
    one = ground.clone()
    one[:2, :2], one[3:5, 3:5], one[1, 1] = 0.9, 0.7, 0.6
    assert float(spill(one, 0)) == pytest.approx(0.7)
    one[1, 1] = 0.8  # no longer below what lies outside
    assert float(spill(one, 0)) == 0


def maps_of(weights: Tensor, side: int) -> Tensor:
    """Cross-attention whose softmax, sharpened by 100, is `weights`, with a start and an end token around."""
    inner = weights.clamp(min=1e-9).log() / 100
    return torch.cat([torch.zeros(side**2, 1), inner, torch.zeros(side**2, 1)], dim=1)


def test_the_loss_of_two_objects_in_their_own_corners() -> None:
    side = 8
    weights = torch.full((side, side, 3), 0.0)
    weights[:4, :4, 0], weights[4:, 4:, 1] = 1.0, 1.0
    weights[..., 2] = 1 - weights[..., :2].sum(dim=2)
    own = torch.eye(side**2)
    loss = attention_loss(maps_of(weights.view(-1, 3), side), own, [1, 2])
    assert float(loss.cross) == pytest.approx(0, abs=1e-4)
    assert float(loss.own) == pytest.approx(0, abs=1e-4)
    shared = attention_loss(maps_of(weights.view(-1, 3), side), torch.full((64, 64), 1 / 64), [1, 2])
    assert float(shared.own) == pytest.approx(0.5, abs=1e-3)


def test_overlap_counts_only_once_every_object_has_a_place() -> None:
    weights = torch.full((16, 3), 1 / 3)
    loss = attention_loss(maps_of(weights, 4), torch.full((16, 16), 1 / 16), [1, 2])
    assert float(loss.cross) == pytest.approx(2 / 3, abs=1e-4) and float(loss.own) == 0


# The update.


def test_kl_is_that_of_normal_distributions_and_0_at_the_start() -> None:
    learned = 0.3 * randn(3, 2, 4, 2, 2)
    mu, log_var = learned[:, 0], learned[:, 1]
    expected = kl_divergence(Normal(mu, (log_var / 2).exp()), Normal(0.0, 1.0)).flatten(1).mean(dim=1)
    torch.testing.assert_close(kl(learned), expected)
    assert torch.equal(kl(torch.zeros(3, 2, 4, 2, 2)), torch.zeros(3))
    assert torch.equal(shifted(randn(1, 4, 2, 2), torch.zeros(1, 2, 4, 2, 2)), randn(1, 4, 2, 2))


def test_adam_is_torchs_for_the_jobs_that_move() -> None:
    leaf = torch.zeros(2, 4, 2, 2, requires_grad=True)
    theirs, ours = torch.optim.Adam([leaf], lr=0.01, eps=1e-3), Adam.of(torch.zeros(2, 4, 2, 2), 0.01)
    for number in range(5):
        slope = randn(2, 2, 4, 2, 2, seed=number)
        leaf.grad = slope[0]
        theirs.step()
        ours.step(slope, torch.tensor([True, number == 0]))
        if number == 0:
            held = ours.learned[1].clone()
    torch.testing.assert_close(ours.learned[0], leaf.detach())
    assert torch.equal(ours.learned[1], held) and ours.count.tolist() == [5, 1]


def test_a_round_lowers_the_loss_within_the_bound(problem: Problem) -> None:
    objective, start = InitNO(steps=20), draw(JOBS, (1, 4, 4, 4))[:, 0]
    everyone = torch.ones(3, dtype=torch.bool)
    found, _, _ = objective.improve(problem, start, 20, everyone)
    places = [objective.targets(problem, job) for job in JOBS]
    before, after = (objective.look(problem, x, places).detach()[:, 0] for x in (start, found))
    assert (after < before).all()
    adam = Adam.of(start, 0.01)
    adam.learned = 0.1 * randn(3, 2, 4, 4, 4)
    assert (kl(adam.learned) > 0.004).all()
    objective.pull_back(adam, everyone)
    assert (kl(adam.learned) <= 0.001).all()


def test_only_the_wanted_jobs_move_and_a_batch_is_its_jobs_alone(problem: Problem) -> None:
    start = draw(JOBS, (1, 4, 4, 4))[:, 0]
    found, _, score = SHORT.improve(problem, start, 3, torch.tensor([True, False, True]))
    assert torch.equal(found[1], start[1]) and not torch.equal(found[0], start[0])
    assert torch.isinf(score).tolist() == [False, True, False]
    alone = Problem.of(problem.backbone, JPEGSize(), JOBS[2:])
    single, _, lone = SHORT.improve(alone, start[2:], 3, torch.tensor([True]))
    torch.testing.assert_close(single[0], found[2], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(lone[0], score[2], atol=1e-4, rtol=1e-3)


def test_reached_targets_end_a_job(problem: Problem) -> None:
    easy = InitNO(cross_target=2.0, own_target=2.0)
    start = draw(JOBS, (1, 4, 4, 4))[:, 0]
    before = problem.backbone.spent
    found, success, _ = easy.improve(problem, start, 10, torch.ones(3, dtype=torch.bool))
    assert success.all() and torch.equal(found, start)
    assert (problem.backbone.spent - before).unet == 1


# The rounds.


def test_rounds_start_afresh_and_the_last_one_from_the_best(problem: Problem) -> None:
    noise = draw(JOBS, problem.backbone.noise_shape)
    anchor, memory, seen = None, {}, []
    for tick in range(4):
        leaf = noise.clone().requires_grad_()
        loss = SHORT.loss(problem, leaf, anchor, tick, memory)
        (slope,) = torch.autograd.grad(loss.value.sum(), leaf)
        assert torch.equal(noise[:, :-1], (noise - slope)[:, :-1])
        seen.append(noise[:, -1])
        noise, memory, anchor = (noise - slope).detach(), loss.memory, loss.outcome.trajectory
        number = [0, 1, memory["round"].tolist(), None][tick]
        if number is None:
            assert not slope.any()  # all rounds are over
            continue
        starts = fresh(JOBS, noise, number if isinstance(number, list) else [number] * 3)
        drift = (noise[:, -1] - starts).square().flatten(1).mean(dim=1)
        assert (drift > 0).all() and (drift < 0.1).all()
    assert memory["done"].all() and torch.equal(seen[0], draw(JOBS, problem.backbone.noise_shape)[:, -1])
    assert not loss.outcome.reward.requires_grad


def test_the_reward_decides_nothing(problem: Problem) -> None:
    noise = draw(JOBS, problem.backbone.noise_shape)
    bright = Problem.of(problem.backbone, Brightness(), JOBS)
    values = [SHORT.loss(p, noise, None, 0).value for p in (problem, bright)]
    assert torch.equal(*values)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("generate an image of a cat and a rabbit", ["cat", "rabbit"]),
        ("a turtle and a orange suitcase", ["turtle", "suitcase"]),
        ("A bear with a glasses", ["bear", "glasses"]),
        ("a photo of a red bird on a bench, near a clock", ["bird", "bench", "clock"]),
        ("a dog and a dog", ["dog"]),
        ("", []),
    ],
)
def test_objects_are_the_last_words_of_phrases(prompt: str, words: list[str]) -> None:
    assert objects(prompt) == words


def test_words_can_be_given_by_hand(problem: Problem) -> None:
    assert InitNO(words=["crown", "cat"]).targets(problem, JOBS[2]) == problem.backbone.places(JOBS[2].prompt, "crown")
    with pytest.raises(ValueError, match="InitNO finds no object in the prompt 'a red fox': name some in `words`"):
        InitNO(words=["zebra"]).targets(problem, JOBS[1])


def test_what_cannot_work_is_refused(problem: Problem) -> None:
    gaussian = MixtureBackbone(torch.zeros(1, 3, 2, 2), torch.ones(1), torch.ones(1), steps=2)
    with pytest.raises(ValueError, match="InitNO reads attention maps, which MixtureBackbone does not give"):
        InitNO().check(gaussian, Brightness())
    InitNO().check(problem.backbone, JPEGSize())
    with pytest.raises(ValueError, match="rounds must be greater than 0, got 0"):
        InitNO(rounds=0)
    with pytest.raises(ValueError, match=r"lr must be greater than 0, got 0\.0"):
        InitNO(lr=0.0)
