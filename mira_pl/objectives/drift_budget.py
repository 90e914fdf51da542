"""DriftBudget: MIRA with a largest drift instead of a weight, which a dual variable a job finds by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from ..drift import Measure, Penalty
from ..problem import Problem
from ..ranges import not_negative
from ..trajectory import Trajectory
from ..types import Noise, PerJob
from .base import NOTHING, Learned, Loss, Memory, Objective
from .mira import MIRA

STATE = ("dual", "gain", "first_reward", "first_drift", "last_drift", "beta")


@dataclass(frozen=True)
class DriftBudget(Objective):
    """max r with drift <= budget: L = -r + beta_k drift, beta_k of every job's own (this package; no paper).

    beta_k = lambda_k G_k / budget, with G_k the largest gain of reward so far: in these units the multiplier at the
    optimum is about 1 whatever the scale of reward and drift. lambda_k is a proportional-integral controller of the
    violation (Stooke et al. 2020), looking ahead by a few iterations because momentum answers late:

        v_k = drift_k + ahead (drift_k - drift_{k-1}) over the budget, minus 1, in [-0.5, 0.5]
        dual_{k+1} = max(0, dual_k + rate v_k),    lambda_k = max(0, dual_{k+1} + damping v_k)

    Attributes:
        budget: the largest drift, greater than 0, in the unit of `drift`; first read it off a run of DNO or MIRA.
        drift: as of `MIRA`; `elbo` counts from the starting image.
        form: as of `MIRA`, of `energy` alone; `abs` bounds the drift on both sides.
        score: as of `MIRA`.
        weights: as of `MIRA`.
        elbo_pairs: as of `MIRA`.
        rate: of the dual variable, an iteration; this and the next two are this package's choice.
        damping: of the violation itself.
        ahead: iterations to look ahead.
        noises: as of `MIRA`.
    """

    budget: float
    drift: Literal["energy", "score_difference", "elbo"] = "score_difference"
    form: Penalty = "abs"
    score: Literal["network", "transition"] = "network"
    weights: Literal["marginal", "ddim"] = "marginal"
    elbo_pairs: int = 8
    rate: float = 0.75
    damping: float = 5.0
    ahead: float = 2.5
    noises: Learned = "trajectory"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget <= 0:
            raise ValueError(f"budget must be greater than 0, got {self.budget}; the start itself has drift 0")
        not_negative(rate=self.rate, damping=self.damping, ahead=self.ahead)

    def loss(
        self, problem: Problem, noise: Noise, anchor: Trajectory | None, tick: int, memory: Memory = NOTHING
    ) -> Loss:
        outcome = self.attempt(problem, noise, anchor)
        measured = self._mira.penalty(problem, outcome, anchor)
        if anchor is None:
            memory = dict.fromkeys(STATE, torch.zeros_like(outcome.reward))
            memory |= {"first_reward": outcome.reward, "first_drift": measured.detach()}
        drift = measured - memory["first_drift"]
        memory = self.control(memory, outcome.reward.detach(), drift.detach())
        return Loss(-outcome.reward + memory["beta"] * drift, outcome, memory)

    def control(self, memory: Memory, reward: PerJob, drift: PerJob) -> Memory:
        """The next state of the controller; `beta` is the weight that it gives this drift."""
        ahead = drift + self.ahead * (drift - memory["last_drift"])
        violation = (ahead / self.budget - 1).clamp(-0.5, 0.5)
        dual = (memory["dual"] + self.rate * violation).clamp(min=0)
        gain = torch.maximum(memory["gain"], reward - memory["first_reward"])
        beta = (dual + self.damping * violation).clamp(min=0) * gain / self.budget
        return dict(memory) | {"dual": dual, "gain": gain, "last_drift": drift, "beta": beta}

    def measures(self, anchor: Trajectory | None) -> Sequence[Measure]:
        return self._mira.measures(anchor)

    @property
    def _mira(self) -> MIRA:
        return MIRA(0.0, self.drift, self.form, self.score, self.weights, self.elbo_pairs, self.noises)
