"""What one batch of jobs is while it is optimised, and how it survives a kill."""

import io
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Self

from ..runs import write_atomic
from ..trajectory import Trajectory
from ..types import Compute, Images, Job, Noise, PerJob

RUNNING, REACHED, STALLED, FAILED, SPENT = range(5)
STATUS = ("finished", "reached its target reward", "stopped improving", "failed: not finite", "spent its budget")
COUNTS = ("unet", "vae", "reward", "backward")


@dataclass(eq=False)
class BatchState:
    """One batch in progress. `tick` counts finished updates; `trace` holds one row a job and evaluated iteration.

    A method may learn several noises a job. `noise` then holds all of them and `anchor` has a row for each; `rows` are
    those of the anchor that the jobs were last looked at by, `best_row` those of `best_noise`. `outside` says which
    jobs were beyond a limit when they were last looked at, `elbo` what they had then, where that is measured, and
    `best_elbo` what `best_noise` has. `memory` belongs to the method. `costs` are those of every job, by kind of call.
    """

    trajectories: ClassVar[tuple[str, ...]] = ("anchor",)
    index: int
    jobs: list[Job]
    noise: Tensor
    start_noise: Tensor
    status: Tensor
    stopped_at: Tensor
    best_noise: Noise
    best_reward: PerJob
    best_tick: Tensor
    rows: Tensor
    best_row: Tensor
    outside: Tensor
    tick: int = 0
    anchor: Trajectory | None = None
    start_loss: PerJob | None = None
    start_clip: PerJob | None = None
    elbo: PerJob | None = None
    best_elbo: PerJob | None = None
    trace: list[dict[str, Any]] = field(default_factory=list)
    rows_last: int = 0
    memory: dict[str, Tensor] = field(default_factory=dict)
    frames: list[Tensor] = field(default_factory=list)
    costs: dict[str, list[int]] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def new(cls, index: int, jobs: list[Job], noise: Tensor) -> Self:
        """A batch before its first iteration."""
        nothing = torch.zeros(len(jobs), dtype=torch.long, device=noise.device)
        worst, rows = torch.full((len(jobs),), -torch.inf, device=noise.device), torch.arange(len(jobs)).to(nothing)
        start, best = noise.clone(), noise.clone()
        zeros = nothing.clone(), nothing.clone()
        made = cls(index, jobs, noise, start, nothing, zeros[0], best, worst, zeros[1], rows, rows.clone(), nothing > 0)
        made.costs = {name: [0] * len(jobs) for name in COUNTS}
        return made

    @property
    def begun(self) -> Trajectory:
        """The anchor of a batch that has been looked at once."""
        if self.anchor is None:
            raise ValueError(f"batch {self.index} has no anchor before its first iteration")
        return self.anchor

    @property
    def running(self) -> Tensor:
        """Which jobs are still optimised, [b]."""
        return self.status == RUNNING

    @property
    def moved(self) -> Tensor:
        """Which jobs may have moved since their last look: those that run, or did until their budget was spent, [b]."""
        return self.running | (self.status == SPENT)

    def stop(self, which: Tensor, status: int) -> None:
        """Freeze the jobs of a mask [b] that run, or ran until their budget was spent; remember when and why."""
        which = which & self.moved
        self.status = torch.where(which, status, self.status)
        self.stopped_at = torch.where(which, self.tick, self.stopped_at)

    def add_cost(self, seconds: float, spent: Compute, keys: Collection[str]) -> None:
        """Of the jobs with these keys; the others have stopped, and that a batch computes them along is not their cost.

        Every attempt decodes once and is scored once: reward calls are decoder calls, and those without one.
        """
        self.seconds += seconds
        rows = [row for row, job in enumerate(self.jobs) if job.key in keys]
        for name, count in (
            ("unet", spent.unet),
            ("vae", spent.vae),
            ("reward", spent.vae + spent.reward),
            ("backward", spent.backward),
        ):
            for row in rows:
                self.costs[name][row] += count

    @property
    def keys(self) -> list[str]:
        """Of all jobs."""
        return [job.key for job in self.jobs]

    def place(self, key: str) -> int:
        """Row of a job."""
        return next(row for row, job in enumerate(self.jobs) if job.key == key)

    def keep_frame(self, images: Images, iterations: int, frames: int) -> None:
        """Keep the images of evenly spaced iterations for the filmstrip."""
        wanted = {round((n + 1) * iterations / (frames + 1)) for n in range(frames)}
        if self.tick in wanted and self.tick > 0:
            self.frames.append(images.detach().half())

    def save(self, path: Path, optimizer: dict[str, Any]) -> None:
        """Tensors and primitives only, in one atomic step."""
        values = {f.name: getattr(self, f.name) for f in fields(self)} | {"optimizer": optimizer}
        values["jobs"] = [(job.prompt, job.seed, job.key) for job in self.jobs]
        for name, value in values.items():
            if isinstance(value, Trajectory):
                values[name] = {f.name: getattr(value, f.name) for f in fields(value)}
        buffer = io.BytesIO()
        torch.save(values, buffer)
        write_atomic(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path, device: torch.device) -> tuple[Self, dict[str, Any]]:
        """The state and the optimiser's state.

        Raises:
            ValueError: the file is not a state that this version wrote.
        """
        try:
            values = torch.load(path, map_location=device, weights_only=True)
            optimizer = values.pop("optimizer")
            values["jobs"] = [Job(*job) for job in values["jobs"]]
            for name in cls.trajectories:
                if values[name] is not None:
                    values[name] = Trajectory(**values[name])
            return cls(**values), optimizer
        except Exception as error:  # a truncated or foreign file fails in many ways, all of them final
            reason = str(error).split("\n")[0]
            raise ValueError(
                f"cannot continue from {path}: {reason}. Delete this file to start its jobs anew"
            ) from error
