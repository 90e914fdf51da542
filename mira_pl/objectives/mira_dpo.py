"""MIRA-DPO: a preference between two noises of one prompt, for rewards without gradient (MIRA, algorithm 2)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch.nn.functional import logsigmoid

from ..drift import Measure, ScoreDifference, ScoreEnergy, penalise, surrogate
from ..problem import Outcome, Problem
from ..rewards.base import BlackBox
from ..trajectory import Trajectory
from ..types import Noise
from .base import NOTHING, Learned, Loss, Memory, Objective


@dataclass(frozen=True)
class MIRADPO(Objective):
    """L = -log sigmoid(beta (D_w - D_l)), D = S_0 - S (MIRA, eq. 43), w the noise whose image the reward prefers.

    Winner and loser are chosen anew in every iteration, and the reward does nothing else. A job starts from the noise
    of its seed and a second one; what it returns is the better of both after the last update.

    Attributes:
        beta: weight; 1 for JPEG compressibility (A.1), 0.2 for the aesthetic score as a black box (section 5.3).
        form: `signed` is eq. 43 to the letter. Eq. 41 asks for the log-ratio of the winner to rise, and where that
            is known it moves against S_0 - S (docs/drift.md): `reversed` takes D = S - S_0.
        score: score of the energy, see `drift.ScoreEnergy`.
        weights: weights sigma_t^2 of the energy, see `drift.ScoreEnergy`.
        noises: `trajectory` learns x_T and the noise of every step (as the paper), `initial` x_T alone.
    """

    candidates: ClassVar[int] = 2
    needs_gradient: ClassVar[bool] = False

    beta: float = 1.0
    form: Literal["signed", "reversed"] = "signed"
    score: Literal["network", "transition"] = "network"
    weights: Literal["marginal", "ddim"] = "marginal"
    noises: Learned = "trajectory"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta <= 0:
            raise ValueError(f"beta must be greater than 0, got {self.beta}: at 0 nothing is learned")

    def loss(
        self, problem: Problem, noise: Noise, anchor: Trajectory | None, tick: int, memory: Memory = NOTHING
    ) -> Loss:
        outcome = self.attempt(problem, noise, anchor)
        energy = outcome.trajectory.energies[0]
        start = energy.detach() if anchor is None else anchor.energies[0]
        gain = penalise(surrogate(start, energy), self.form)
        winner = self.answer(outcome.reward)
        loser = (winner + len(problem.jobs)) % len(gain)
        return Loss(-logsigmoid(self.beta * (gain[winner] - gain[loser])), outcome)

    def attempt(self, problem: Problem, noise: Noise, anchor: Trajectory | None) -> Outcome:
        """Both noises, one after the other: the memory and the counts of a batch of single ones."""
        blind, jobs = replace(problem, reward=BlackBox(problem.reward)), len(problem.jobs)
        outcomes = []
        for number, single in enumerate(noise.chunk(2, dim=1)):
            start = None if anchor is None else anchor.rows(slice(number * jobs, (number + 1) * jobs))
            outcomes.append(blind.attempt(single, self.measures(start), keep_eps=anchor is None))
        return outcomes[0].then(outcomes[1])

    def measures(self, anchor: Trajectory | None) -> Sequence[Measure]:
        energy = ScoreEnergy(self.score, self.weights)
        return [energy] if anchor is None or anchor.eps is None else [energy, ScoreDifference(anchor.eps)]
