"""FK steering by MIRA's objective: reward less the drift of the particle's path (MIRA, A.4, "hybrid feasibility")."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ..ranges import not_negative
from ..types import PerJob
from .fk import FK
from .particles import Particles, PerParticle, Swarm


@dataclass(frozen=True)
class MIRAFK(FK):
    """FK steering whose potentials are made of r - beta (S_0 - S), with S summed over the steps a particle has made.

    The paper gives beta alone; particles, looks and potential are those of `FK`.

    Attributes:
        beta: weight of the drift, 0.1 in A.4.
    """

    uses_start = True

    beta: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative(beta=self.beta)

    def merit(self, reward: PerParticle, state: Particles, swarm: Swarm) -> PerParticle:
        made = swarm.start_eps[: state.noise.shape[2] - 1]
        drift = energy(made) - state.energies[..., 0]
        return super().merit(reward - self.beta * drift, state, swarm)


def energy(eps: Float[Tensor, "t b c h w"]) -> PerJob:
    """S of predicted noises: `drift.ScoreEnergy` with its defaults, which takes nothing else of the path."""
    return eps.square().flatten(2).mean(dim=2).sum(dim=0)
