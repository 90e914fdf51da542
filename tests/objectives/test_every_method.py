"""What every gradient method must keep to: one suite, run for each of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from counted import Counted
from torch import Tensor

from mira_pl.backbones.analytic import MixtureBackbone
from mira_pl.noise import draw
from mira_pl.objectives import DNO, MIRA, MIRADPO, DriftBudget, EstimatedGradient, Guarded, Langevin, Objective, ReNO
from mira_pl.objectives.base import NOTHING, Loss
from mira_pl.problem import Problem
from mira_pl.rewards import BlackBox, Brightness, JPEGSize, Reward
from mira_pl.trajectory import Engine
from mira_pl.types import Job

JOBS = [Job("a", 1, "a"), Job("b", 2, "b"), Job("c", 5, "c")]
STEPS = 4


class Contrast(Reward):
    """What stands where a fit has its CLIPScore."""

    differentiable: ClassVar[bool] = True

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return images.flatten(1).std(dim=1)


@dataclass
class Round:
    """Three iterations of a method by plain gradient steps: losses, gradients and where it stands."""

    losses: list[Loss]
    gradients: list[Tensor]
    learned: Tensor


def problem(reward: Reward, jobs: list[Job], engine: str = "walk") -> Problem:
    means = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    backbone = MixtureBackbone(means, torch.tensor([0.5, 0.9]), torch.tensor([0.4, 0.6]), steps=STEPS)
    return replace(Problem.of(backbone, reward, jobs, Engine(engine)), clip=Contrast())


def solve(objective: Objective, reward: Reward, jobs: list[Job] = JOBS, engine: str = "walk") -> Round:
    posed = problem(reward, jobs, engine)
    learned, anchor, memory = objective.start(jobs, posed.backbone.noise_shape), None, NOTHING
    losses, gradients = [], []
    for tick in range(3):
        leaf = learned.clone().requires_grad_()
        loss = objective.loss(posed, leaf, anchor, tick, memory)
        (gradient,) = torch.autograd.grad(loss.value.sum(), leaf)
        gradient[:, ~objective.moves(leaf.shape[1])] = 0
        length = gradient.flatten(1).norm(dim=1).clamp(min=1e-9).view(-1, 1, 1, 1, 1)
        learned = (leaf - gradient / length).detach()
        anchor = loss.outcome.trajectory.detach() if anchor is None else anchor
        memory = {name: value.detach() for name, value in loss.memory.items()}
        losses.append(loss)
        gradients.append(gradient)
    return Round(losses, gradients, learned)


class ObjectiveConformance:
    """Subclasses give an `objective`, and a reward if it is to be a black box."""

    objective: Objective
    reward: Reward = Brightness()

    @pytest.fixture(scope="class")
    def solved(self) -> Round:
        return solve(self.objective, self.reward)

    def test_starts_from_the_noise_of_the_seed(self) -> None:
        shape = problem(self.reward, JOBS).backbone.noise_shape
        learned = self.objective.start(JOBS, shape)
        rows = self.objective.split(learned)
        assert rows.shape == (self.objective.candidates * len(JOBS), *shape)
        assert torch.equal(rows[: len(JOBS)], draw(JOBS, shape))
        assert len({float(row.sum()) for row in rows}) == len(rows)
        assert torch.equal(learned[1:2], self.objective.start(JOBS[1:2], shape))

    def test_every_iteration_has_a_loss_a_job_and_an_attempt_a_noise(self, solved: Round) -> None:
        for loss in solved.losses:
            assert loss.value.shape == (len(JOBS),) and torch.isfinite(loss.value).all()
            assert len(loss.outcome.reward) == self.objective.candidates * len(JOBS)
            answer = self.objective.answer(loss.outcome.reward)
            assert torch.equal(answer % len(JOBS), torch.arange(len(JOBS)))
            assert all(len(value) == len(JOBS) for value in loss.memory.values())
        assert len(solved.losses[0].outcome.trajectory.eps) == STEPS
        assert all(loss.outcome.trajectory.energies.shape[0] == 2 for loss in solved.losses[1:])

    def test_what_moves_has_a_gradient(self, solved: Round) -> None:
        moving = self.objective.moves(solved.learned.shape[1])
        assert moving.any()
        for gradient in solved.gradients:
            assert torch.isfinite(gradient).all()
            assert (gradient.flatten(1) != 0).any(dim=1).all()

    def test_it_is_deterministic_and_blind_to_the_global_seed(self, solved: Round) -> None:
        torch.manual_seed(99)
        again = solve(self.objective, self.reward)
        assert torch.equal(again.learned, solved.learned)
        assert all(torch.equal(a.value, b.value) for a, b in zip(again.losses, solved.losses, strict=True))

    def test_batch_equals_singles(self, solved: Round) -> None:
        for row, job in enumerate(JOBS):
            alone = solve(self.objective, self.reward, [job])
            torch.testing.assert_close(alone.learned[0], solved.learned[row], atol=1e-4, rtol=1e-3)
            torch.testing.assert_close(alone.losses[2].value[0], solved.losses[2].value[row], atol=1e-4, rtol=1e-3)

    def test_rewards_are_counted(self) -> None:
        """What is decoded is scored, and `scored` is what else was, by the reward or by a guard."""
        counted, guard = Counted(self.reward), Counted(Contrast())
        posed = replace(problem(counted, JOBS), clip=guard)
        learned = self.objective.start(JOBS, posed.backbone.noise_shape)
        loss = self.objective.loss(posed, learned.requires_grad_(), None, 0)
        assert counted.images + guard.images == len(JOBS) * (posed.backbone.spent.vae + loss.scored)

    def test_black_boxes_are_for_methods_without_their_gradient(self) -> None:
        backbone = problem(self.reward, JOBS).backbone
        if self.objective.needs_gradient:
            with pytest.raises(ValueError, match=r"gradient.*: MIRADPO, or EstimatedGradient around"):
                self.objective.check(backbone, JPEGSize(), Contrast())
        else:
            self.objective.check(backbone, JPEGSize(), Contrast())

    @pytest.mark.parametrize("engine", ["full", "checkpoint"])
    def test_engines_agree(self, solved: Round, engine: str) -> None:
        other = solve(self.objective, self.reward, engine=engine)
        torch.testing.assert_close(other.learned, solved.learned, atol=1e-5, rtol=1e-4)

    def test_an_attempt_is_that_of_the_loss(self, solved: Round) -> None:
        posed, first = problem(self.reward, JOBS), solved.losses[0].outcome
        start = self.objective.start(JOBS, posed.backbone.noise_shape)
        with torch.no_grad():
            outcome = self.objective.attempt(posed, start, None)
        assert torch.equal(outcome.reward, first.reward)
        assert torch.equal(outcome.trajectory.energies, first.trajectory.energies)


class TestDNO(ObjectiveConformance):
    objective = DNO()


class TestPRNO(ObjectiveConformance):
    objective = DNO(gamma=1.0, permutations=2)


class TestMIRA(ObjectiveConformance):
    objective = MIRA(beta=0.5)


class TestMIRAOnTheStart(ObjectiveConformance):
    objective = MIRA(beta=0.5, drift="score_difference", noises="initial")


class TestReNO(ObjectiveConformance):
    objective = ReNO()


class TestGuarded(ObjectiveConformance):
    objective = Guarded()


class TestMIRADPO(ObjectiveConformance):
    objective = MIRADPO()
    reward = JPEGSize()


class TestMIRADPOOnTheStart(ObjectiveConformance):
    objective = MIRADPO(form="reversed", noises="initial")


class TestHybrid2(ObjectiveConformance):
    objective = EstimatedGradient(DNO(), queries=2, mu=0.1)
    reward = BlackBox(Brightness())  # the size of so small a JPEG may stay what it is


class TestHybrid1OfMIRA(ObjectiveConformance):
    objective = EstimatedGradient(MIRA(), "hybrid1", queries=2, mu=0.1)
    reward = BlackBox(Brightness())


class TestZerothOrderOnTheStart(ObjectiveConformance):
    objective = EstimatedGradient(ReNO(), "zo", queries=2, normalise=False)


class TestLangevin(ObjectiveConformance):
    objective = Langevin()


class TestDriftBudget(ObjectiveConformance):
    objective = DriftBudget(budget=0.01)


class TestHybrid2OfDriftBudget(ObjectiveConformance):
    objective = EstimatedGradient(DriftBudget(budget=0.01, drift="elbo", elbo_pairs=2), queries=2)
