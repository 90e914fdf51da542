"""`python -m mira_pl pretrain --config configs/world/unet.yaml`: train a model of the emoji world."""

from collections.abc import Sequence

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger

import mira_pl.world.trainers  # noqa: F401  short class names resolve among what is imported
from mira_pl.world.training import Ticks, WorldTraining


def main(argv: Sequence[str]) -> None:
    """Train, save every few hundred steps, go on where the last run stopped, write the finished model."""
    cli = LightningCLI(
        WorldTraining,
        Ticks,
        subclass_mode_model=True,
        run=False,
        args=list(argv),
        save_config_callback=None,
        auto_configure_optimizers=False,
        seed_everything_default=0,
        trainer_defaults={
            "max_epochs": 1,
            "use_distributed_sampler": False,  # every process counts every step
            "gradient_clip_val": 1.0,
            "enable_checkpointing": False,
            "enable_model_summary": False,
        },
    )
    root = cli.model.out.parent
    checkpoint = ModelCheckpoint(root, every_n_train_steps=cli.model.save_every, save_last=True, save_top_k=0)
    cli.trainer.callbacks.append(checkpoint)  # pyright: ignore[reportAttributeAccessIssue]
    cli.trainer.loggers = [CSVLogger(root, name="", version="")]
    last = root / "last.ckpt"
    cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=last if last.exists() else None)
