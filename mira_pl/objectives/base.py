"""A gradient method on noise: a loss a job, minimised, so here stands the one minus sign before a reward."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..drift import Measure, ScoreDifference, ScoreEnergy
from ..problem import Outcome, Problem
from ..trajectory import Trajectory
from ..types import Noise, PerJob

Learned = Literal["trajectory", "initial"]


@dataclass(frozen=True, eq=False)
class Loss:
    """What is minimised, one number a job, and the attempt it came from."""

    value: PerJob
    outcome: Outcome


class Objective(ABC):
    """A frozen dataclass whose fields are the method's hyper-parameters.

    The anchor of a job is its first trajectory, detached: what the frozen model drew from the starting noise. In the
    first iteration there is none yet, and every drift is 0.
    """

    noises: Learned

    @abstractmethod
    def loss(self, problem: Problem, noise: Noise, anchor: Trajectory | None, tick: int) -> Loss:
        """The loss of every job at iteration `tick`, differentiable in `noise`."""

    def measures(self, anchor: Trajectory | None) -> Sequence[Measure]:
        """Row 0: the score energy S; row 1, once there is an anchor: the score difference to it."""
        if anchor is None or anchor.eps is None:
            return [ScoreEnergy()]
        return [ScoreEnergy(), ScoreDifference(anchor.eps)]
