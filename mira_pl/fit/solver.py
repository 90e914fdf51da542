"""What learning and searching share: one batch of prompt-seeds after the other, a Lightning epoch each."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L

from ..backbones import Backbone
from ..problem import Outcome, Problem
from ..rewards import Reward
from ..runs import RunFolder
from ..types import Compute
from .data import PromptData
from .finish import Result, finish
from .monitor import means_over_processes
from .state import BatchState


class Solver(L.LightningModule, ABC):
    """Opens a batch of jobs a process and round, and writes what came of it. A tick is a training step.

    Attributes:
        backbone: the frozen text-to-image model.
        reward: what is to go up.
        clip: CLIPScore of the traces and records, or None.
        iterations: ticks of a round.
        run: where results are written; None keeps them in `results` alone.
        means: of the latest rows of the trace over all processes, with their round, counted from 0.
        state, problem: of the batch in progress; None where this process has none.
    """

    iterations: int

    def __init__(self, backbone: Backbone, reward: Reward, clip: Reward | None) -> None:
        super().__init__()
        self.backbone, self.reward, self.clip = backbone, reward, clip
        self.run: RunFolder | None = None
        self.config_hash = ""
        self.means: dict[str, float] = {}
        self.state: BatchState | None = None
        self.problem: Problem | None = None
        self.opened: int | None = None
        self.results: list[Result] = []
        self._spent = backbone.spent

    @property
    @abstractmethod
    def method(self) -> str:
        """What logs and records call the method."""

    @abstractmethod
    def open_round(self, index: int | None) -> None:
        """Begin or continue the batch of that index; None where this process has nothing to do."""

    @abstractmethod
    def last_look(self, state: BatchState, problem: Problem) -> Outcome:
        """What is returned."""

    def on_fit_start(self) -> None:
        """Move the frozen parts, take rank 0's size of a batch, drop what is finished, and set the number of rounds."""
        self.backbone.to(self.device)
        self.reward = self.reward.to(self.device)
        self.clip = None if self.clip is None else self.clip.to(self.device)
        known = (self.data.batch_size, self.config_hash)
        size, self.config_hash = self.trainer.strategy.broadcast(known)
        self.data.cut(size)
        if self.run is not None:
            self.data.drop_finished({record["key"] for record in self.run.records()})
        self.trainer.strategy.barrier()
        self.trainer.fit_loop.max_epochs = self.data.rounds(self.trainer.world_size)

    @property
    def data(self) -> PromptData:
        """The jobs of this fit."""
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def on_train_batch_start(self, batch: int, batch_idx: int) -> None:
        if self.opened != self.trainer.current_epoch:
            self.opened = self.trainer.current_epoch
            self.open_round(self.data.at(self.opened, self.global_rank, self.trainer.world_size))

    def on_train_epoch_end(self) -> None:
        """The last look at every job of this round, then images, noise, trace and records."""
        finish(self)

    def report(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Means of new trace rows to the progress bar and the loggers. Every process must call it."""
        means = means_over_processes(rows, self.trainer.strategy.reduce, self.device)
        if not means:
            return
        shown = {name: means[name] for name in ("reward", "drift", "clip") if name in means}
        self.log_dict(shown, prog_bar=True, logger=False)
        self.means = means | {"round": self.trainer.current_epoch}
        for logger in self.trainer.loggers:
            logger.log_metrics(self.means, step=step)

    def spent_since_last(self) -> Compute:
        """What the backbone has computed since this was last asked."""
        before, self._spent = self._spent, self.backbone.spent
        return self._spent - before
