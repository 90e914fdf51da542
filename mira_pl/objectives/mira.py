"""MIRA: reward minus a penalty on the drift of the sampling trajectory (algorithm 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from ..drift import Measure, Penalty, ScoreDifference, ScoreEnergy, penalise, surrogate
from ..problem import Outcome, Problem
from ..trajectory import Trajectory
from ..types import Noise, PerJob
from .base import NOTHING, Learned, Loss, Memory, Objective


@dataclass(frozen=True)
class MIRA(Objective):
    """L = -r + beta * drift (MIRA, eq. 4).

    Attributes:
        beta: weight of the drift, at least 0; 0.2 is A.1's for the aesthetic score, 0.5 for HPSv2 and PickScore, 1 for
            brightness, 0.8 for darkness. The drift is summed over steps and averaged over latent dimensions.
        drift: `energy` is the paper's surrogate S_0 - S; `score_difference` compares the predictions of both
            trajectories; `elbo` is the frozen model's own denoising loss of the image: its gradient is that of the
            rise since the start.
        form: reading of the surrogate, used by `energy` alone. `abs` held hacking down where that was measured
            (docs/hacking.md); `signed` is the letter of eq. 4 and did not.
        score: score of the energy, see `drift.ScoreEnergy`.
        weights: weights sigma_t^2 of the energy, see `drift.ScoreEnergy`.
        elbo_pairs: (timestep, noise) pairs of `elbo`; how many is a choice of this package.
        noises: `trajectory` learns x_T and the noise of every step (as the paper), `initial` x_T alone.
    """

    beta: float = 0.2
    drift: Literal["energy", "score_difference", "elbo"] = "energy"
    form: Penalty = "abs"
    score: Literal["network", "transition"] = "network"
    weights: Literal["marginal", "ddim"] = "marginal"
    elbo_pairs: int = 8
    noises: Learned = "trajectory"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta < 0:
            raise ValueError(f"beta must be at least 0, got {self.beta}; 0 is the plain reward")
        if self.elbo_pairs < 1:
            raise ValueError(f"elbo_pairs must be at least 1, got {self.elbo_pairs}")

    def loss(
        self, problem: Problem, noise: Noise, anchor: Trajectory | None, tick: int, memory: Memory = NOTHING
    ) -> Loss:
        outcome = problem.attempt(noise, self.measures(anchor), keep_eps=anchor is None)
        return Loss(-outcome.reward + self.beta * self.penalty(problem, outcome, anchor), outcome)

    def penalty(self, problem: Problem, outcome: Outcome, anchor: Trajectory | None) -> PerJob:
        """The drift as it is penalised, before beta."""
        path = outcome.trajectory
        if self.drift == "energy":
            start = path.energies[0].detach() if anchor is None else anchor.energies[0]
            return penalise(surrogate(start, path.energies[0]), self.form)
        if self.drift == "score_difference":
            return torch.zeros_like(outcome.reward) if anchor is None else path.energies[1]
        return problem.denoising_loss(path.latents, self.elbo_pairs)

    def measures(self, anchor: Trajectory | None) -> Sequence[Measure]:
        energy = ScoreEnergy(self.score, self.weights)
        return [energy] if anchor is None or anchor.eps is None else [energy, ScoreDifference(anchor.eps)]
