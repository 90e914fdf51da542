"""What a job may cost, so that methods are compared at equal compute."""

from dataclasses import asdict, dataclass

from ..ranges import positive
from .state import SPENT, BatchState


@dataclass(frozen=True)
class Budget:
    """The largest cost of a job's iterations, counted as in the records; what is None is without limit.

    A job stops where one more iteration, at their mean cost so far, would exceed it. The first one always runs, and the
    last look at the result comes on top. Give enough iterations or rounds: they are a limit, too.

    Attributes:
        unet: denoiser calls, without those that an engine repeats to save memory.
        vae: decoded images.
        reward: scored images.
        backward: denoiser calls that a gradient went back through.
        seconds: of the batch over its jobs; runs that are stopped by it are not repeatable.
    """

    unet: int | None = None
    vae: int | None = None
    reward: int | None = None
    backward: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        positive(**asdict(self))

    def stop(self, state: BatchState) -> None:
        """Freeze the running jobs of a batch whose budget is spent, after iteration `state.tick`."""
        costs = {name: max(counts) for name, counts in state.costs.items()}  # of the jobs that run
        costs |= {"seconds": state.seconds / len(state.jobs)}
        limits = {name: limit for name, limit in asdict(self).items() if limit is not None}
        if any(costs[name] * (state.tick + 1) > limit * state.tick for name, limit in limits.items()):
            state.stop(state.running, SPENT)
