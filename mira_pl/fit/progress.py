"""What a terminal shows of a run: where it is, what it has gained, and when it ends."""

import time
from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import BarColumn, Progress, TextColumn

from .solver import Solver

NAMES = {"reward": "reward", "drift": "drift", "clip": "CLIP"}


class RunProgress(ProgressBar):
    """One line for the whole run: round, iteration, mean reward, drift and CLIPScore of its jobs, seconds left.

    The bar and the seconds are those of all rounds, by the mean time of the ticks so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled, self._began, self._ticks = True, 0.0, 0
        self.progress = Progress(TextColumn("{task.description}"), BarColumn(10))

    def disable(self) -> None:
        """Lightning's call in every process but the first."""
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._enabled:
            self._began = time.monotonic()
            self.progress.add_task("", total=(trainer.max_epochs or 0) * int(trainer.num_training_batches))
            self.progress.start()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The module reports after its callbacks were asked, so what is new is shown with the next tick."""
        self._show(trainer, pl_module)
        self._ticks += 1

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._show(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._show(trainer, pl_module)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.progress.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.progress.stop()

    def _show(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not self.progress.tasks or not isinstance(module, Solver):
            return
        task = self.progress.tasks[0]
        left = (time.monotonic() - self._began) * ((task.total or 0) / self._ticks - 1) if self._ticks else None
        text = line(module.means, trainer.max_epochs or 0, module.iterations, left)
        self.progress.update(task.id, completed=self._ticks, description=text)


def line(means: Mapping[str, float], rounds: int, iterations: int, left: float | None) -> str:
    """The fields; what is not known, as CLIPScore where it is not computed, is left out."""
    fields = [
        f"round {means.get('round', 0) + 1:.0f}/{rounds}",
        f"iteration {means.get('iteration', 0):.0f}/{iterations}",
    ]
    fields += [f"{shown} {means[name]:.4g}" for name, shown in NAMES.items() if name in means]
    return "  ".join([*fields, *([] if left is None else [f"{left:.0f} s left"])])
