"""Estimates of the reward's gradient against the gradient itself, and the toy of DNO's public notebook."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from mira_pl.backbones.analytic import MixtureBackbone
from mira_pl.noise import draw
from mira_pl.objectives import DNO, MIRA, MIRADPO, EstimatedGradient, Objective
from mira_pl.problem import Problem
from mira_pl.rewards import BlackBox, JPEGSize, Reward
from mira_pl.trajectory import Engine
from mira_pl.types import Compute, Job, Noise

ESTIMATORS = ["hybrid2", "hybrid1", "zo"]
JOBS = [Job("a", 1, "a"), Job("b", 2, "b")]


class Bowl(Reward):
    """A curved reward: minus the mean square distance of the pixels to 0.5."""

    differentiable: ClassVar[bool] = True

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return -(images - 0.5).square().mean(dim=(1, 2, 3))


def problem(jobs: Sequence[Job] = JOBS, reward: Reward | None = None, side: int = 2) -> Problem:
    means = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    backbone = MixtureBackbone(means, torch.tensor([0.5, 0.9]), torch.tensor([0.4, 0.6]), steps=2)
    return Problem.of(backbone, reward or Bowl(), list(jobs), Engine("full"))


def noise_of(jobs: Sequence[Job] = JOBS) -> Noise:
    return draw(jobs, problem().backbone.noise_shape)


def many(estimator: str, count: int, mu: float) -> tuple[Tensor, Tensor, Tensor]:
    """One noise estimated from `count` directions; the true gradient in the image, and the Jacobian [pixels, noise].

    The directions are those of `count` jobs, one each, all standing at the same noise.
    """
    jobs = [Job("a", seed, str(seed)) for seed in range(count)]
    noise = noise_of(JOBS[:1]).expand(count, -1, -1, -1, -1).clone()
    posed = problem(jobs)
    outcome = posed.attempt(noise)
    objective = EstimatedGradient(DNO(), estimator, mu=mu, queries=1, normalise=False)
    single = problem(JOBS[:1])
    jacobian = torch.autograd.functional.jacobian(lambda z: single.attempt(z).trajectory.images.flatten(), noise[:1])
    image = outcome.trajectory.images[:1].requires_grad_()
    (slope,) = torch.autograd.grad(Bowl().score(image, ["a"]).sum(), image)
    return objective.estimate(posed, noise, outcome.detach(), 0).mean(dim=0), slope.flatten(), jacobian.flatten(1)


def target(estimator: str, slope: Tensor, jacobian: Tensor) -> Tensor:
    if estimator == "hybrid1":
        return slope
    return jacobian.T @ slope if estimator == "zo" else jacobian @ jacobian.T @ slope


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimates_go_to_their_limit_with_the_number_of_queries(estimator: str) -> None:
    """The true gradient in the image or in the noise; for hybrid-2 J J^T times that in the image. Error ~ 1/sqrt(q)."""
    errors = []
    for count in (100, 6400):
        found, slope, jacobian = many(estimator, count, 1e-3)
        wanted = target(estimator, slope, jacobian)
        errors.append(float((found.flatten() - wanted).norm() / wanted.norm()))
    assert errors[1] < 0.15
    assert 3 < errors[0] / errors[1] < 20  # 8 on average


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_smaller_mu_has_less_bias(estimator: str) -> None:
    """Against the limit of mu -> 0 of the same directions."""
    least, *_ = many(estimator, 400, 2e-3)
    errors = [float((many(estimator, 400, mu)[0] - least).norm() / least.norm()) for mu in (0.5, 0.05)]
    assert errors[1] < 0.3 * errors[0]


def test_hybrid_2_is_an_ascent_direction_but_not_the_gradient() -> None:
    _, slope, jacobian = many("hybrid2", 1, 1e-3)
    limit = jacobian.T @ target("hybrid2", slope, jacobian)
    true = jacobian.T @ slope
    cosine = float(limit @ true / limit.norm() / true.norm())
    assert 0 < cosine < 0.999
    torch.testing.assert_close(limit @ true, target("hybrid2", slope, jacobian).square().sum())


@pytest.mark.parametrize("estimator", ["hybrid2", "hybrid1"])
def test_the_estimate_goes_back_through_the_samplers_jacobian(estimator: str) -> None:
    noise = noise_of().requires_grad_()
    objective = EstimatedGradient(DNO(), estimator)
    loss = objective.loss(problem(), noise, None, 3)
    (found,) = torch.autograd.grad(loss.value.sum(), noise)
    outcome = problem().attempt(noise)
    estimate = objective.estimate(problem(), noise.detach(), outcome.detach(), 3)
    (expected,) = torch.autograd.grad(outcome.trajectory.images, noise, -estimate)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(estimate.flatten(1).norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_value_is_that_of_the_method_and_its_penalty_keeps_its_own_gradient(estimator: str) -> None:
    mira, noise = MIRA(beta=0.5), noise_of() + 0.1
    anchor = mira.loss(problem(), noise_of(), None, 0).outcome.trajectory.detach()

    def slope(objective: Objective, reward: Reward) -> tuple[Tensor, Tensor]:
        leaf = noise.clone().requires_grad_()
        loss = objective.loss(problem(reward=reward), leaf, anchor, 1)
        return loss.value.detach(), torch.autograd.grad(loss.value.sum(), leaf)[0]

    value, found = slope(EstimatedGradient(mira, estimator), Bowl())
    plain_value, _ = slope(mira, Bowl())
    _, ascent = slope(EstimatedGradient(DNO(), estimator), Bowl())
    _, penalty = slope(mira, BlackBox(Bowl()))
    assert torch.equal(value, plain_value)
    torch.testing.assert_close(found, ascent + penalty, atol=1e-6, rtol=1e-4)


def test_zeroth_order_propagates_nothing_back() -> None:
    """T calls for the image and T for every query, no call back, and no reward's gradient."""
    posed = problem(reward=JPEGSize(), side=8)
    noise = draw(JOBS, posed.backbone.noise_shape).requires_grad_()
    for estimator, spent, scored in (
        ("zo", Compute(unet=2 * 4, vae=4), 0),
        ("hybrid2", Compute(unet=2 * 4, vae=4, backward=2), 0),
        ("hybrid1", Compute(unet=2, vae=1, backward=2), 3),
    ):
        before = posed.backbone.spent
        loss = EstimatedGradient(DNO(), estimator, queries=3).loss(posed, noise, None, 0)
        loss.value.sum().backward()
        assert posed.backbone.spent - before == spent
        assert loss.scored == scored


@pytest.mark.parametrize("estimator", ["hybrid2", "zo"])
def test_where_x_t_alone_is_learned_it_alone_is_perturbed(estimator: str) -> None:
    seen, original = [], Problem.attempt
    objective = EstimatedGradient(DNO(noises="initial"), estimator, queries=1, mu=0.1)

    def attempt(self: Problem, noise: Noise, *args: object, **options: object) -> object:
        seen.append(noise.detach())
        return original(self, noise, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Problem, "attempt", attempt)
        objective.loss(problem(), noise_of().requires_grad_(), None, 0)
    assert torch.equal(seen[0][:, :-1], seen[1][:, :-1]) and not torch.equal(seen[0][:, -1], seen[1][:, -1])


def test_directions_belong_to_job_iteration_and_query() -> None:
    objective = EstimatedGradient(DNO(), queries=1)
    outcome = problem().attempt(noise_of())
    first, again, later = (objective.estimate(problem(), noise_of(), outcome, tick) for tick in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, later)
    more = replace(objective, queries=2).estimate(problem(), noise_of(), outcome, 0)
    assert not torch.allclose(first, more)
    alone = problem(JOBS[1:])
    single = objective.estimate(alone, noise_of(JOBS[1:]), alone.attempt(noise_of(JOBS[1:])), 0)
    torch.testing.assert_close(single[0], first[1], atol=1e-4, rtol=1e-3)


def test_a_flat_reward_has_a_gradient_of_zero() -> None:
    class Flat(Reward):
        differentiable: ClassVar[bool] = False

        def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
            return torch.zeros(len(images))

    outcome = problem(reward=Flat()).attempt(noise_of())
    estimate = EstimatedGradient(DNO()).estimate(problem(reward=Flat()), noise_of(), outcome, 0)
    assert torch.equal(estimate, torch.zeros_like(estimate))


def test_names_say_method_and_estimator() -> None:
    assert EstimatedGradient(MIRA(), "hybrid1").name == "MIRA (hybrid1)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": MIRADPO()}, "MIRADPO needs no reward gradient: take it without EstimatedGradient"),
        ({"objective": DNO(), "mu": 0.0}, r"mu must be greater than 0, got 0\.0"),
        ({"objective": DNO(), "queries": 0}, "queries must be greater than 0, got 0"),
    ],
)
def test_impossible_parameters_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EstimatedGradient(**options)
