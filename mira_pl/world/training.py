"""What the trainers of the world share: ticks instead of data files, one optimiser recipe, one export at the end."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader


class Ticks(L.LightningDataModule):
    """Counts the optimiser steps. Pictures come from (seed, step): a resumed run draws what an unbroken one would."""

    def train_dataloader(self) -> DataLoader[int]:
        return DataLoader(range(self.trainer.lightning_module.steps), batch_size=None)  # type: ignore[arg-type]


class WorldTraining(L.LightningModule):
    """A model of the emoji world in training.

    Args:
        out: folder the finished model is written to.
        steps: optimiser steps, the length of the one-cycle schedule.
        batch_size: pictures a step.
        lr: peak learning rate of AdamW.
        seed: seed of the weights and of every picture.
        save_every: steps between checkpoints; a killed run goes on from the last one.
    """

    def __init__(self, out: Path, steps: int, batch_size: int, lr: float, seed: int, save_every: int) -> None:
        super().__init__()
        self.save_every = save_every
        self.out, self.steps, self.batch_size, self.lr, self.seed = out, steps, batch_size, lr, seed
        torch.manual_seed(seed)

    @abstractmethod
    def learned(self) -> nn.Module:
        """The module whose parameters are optimised."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the finished model in the folder layout of diffusers or transformers."""

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.learned().parameters(), lr=self.lr, betas=(0.9, 0.99), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, total_steps=self.steps, pct_start=0.05)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_end(self) -> None:
        if self.trainer.is_global_zero and self.global_step >= self.steps:
            self.export(self.out)

    def report(self, **values: Tensor) -> None:
        """Log scalars every step, on the progress bar too."""
        self.log_dict(values, prog_bar=True, on_step=True, on_epoch=False)


class AveragedTraining(WorldTraining):
    """A training whose result is an exponential moving average of the weights, `ema.module`."""

    def average(self, model: Any, decay: float) -> None:
        """Learn this model, and average it with this decay a step."""
        self.model = model
        self.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.ema.requires_grad_(False)

    def learned(self) -> nn.Module:
        return self.model

    def on_train_batch_end(self, *_: object) -> None:
        self.ema.update_parameters(self.model)
