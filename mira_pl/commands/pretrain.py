"""`python -m mira_pl pretrain --config configs/world/unet.yaml`: train a model of the emoji world."""

from collections.abc import Sequence

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import mira_pl.world.trainers  # noqa: F401  short class names resolve among what is imported
from mira_pl.fit.cli import OneLineParser
from mira_pl.ranges import positive
from mira_pl.world.training import Ticks, WorldTraining


def main(argv: Sequence[str]) -> None:
    """Train, save every few hundred steps, go on where the last run stopped, write the finished model.

    Raises:
        ValueError: no configuration, a number that cannot be, or not the devices that are asked for.
    """
    if not argv:
        raise ValueError("no configuration. Try: python -m mira_pl pretrain --config configs/world/vae.yaml")
    try:
        cli = parse(argv)
    except MisconfigurationException as error:
        raise ValueError(f"the trainer cannot run so: {error}") from error
    model = cli.model
    positive(steps=model.steps, batch_size=model.batch_size, lr=model.lr, save_every=model.save_every)
    root = model.out.parent
    checkpoint = ModelCheckpoint(root, every_n_train_steps=model.save_every, save_last=True, save_top_k=0)
    cli.trainer.callbacks.append(checkpoint)  # pyright: ignore[reportAttributeAccessIssue]
    cli.trainer.loggers = [CSVLogger(root, name="", version="")]
    last = root / "last.ckpt"
    cli.trainer.fit(model, cli.datamodule, ckpt_path=last if last.exists() else None)


def parse(argv: Sequence[str]) -> LightningCLI:
    """The trainer of a model and Lightning's Trainer, from YAML and flags."""
    return LightningCLI(
        WorldTraining,
        Ticks,
        subclass_mode_model=True,
        run=False,
        args=list(argv),
        save_config_callback=None,
        auto_configure_optimizers=False,
        seed_everything_default=0,
        parser_class=OneLineParser,
        trainer_defaults={
            "max_epochs": 1,
            "use_distributed_sampler": False,  # every process counts every step
            "gradient_clip_val": 1.0,
            "enable_checkpointing": False,
            "enable_model_summary": False,
        },
    )
