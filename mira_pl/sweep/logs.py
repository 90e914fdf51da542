"""The W&B run of a study, beside those of its trials: the table, the pictures, the best configuration."""

from pathlib import Path

import optuna
import wandb

from ..fit.logs import Wandb
from .check import report_sets, representative
from .definition import Sweep
from .export import config, table
from .page import figures
from .study import TOKEN, best


def log_study(study: optuna.Study, sweep: Sweep, out: Path) -> None:
    """Write it, into the project and in the mode of the base fit; a study that goes on continues its run."""
    settings = Wandb(**representative(sweep, {})["wandb"])
    mode = settings.resolved()
    if mode == "disabled":
        return
    found = best(study)
    run = wandb.init(
        project=settings.project,
        group=sweep.name,
        job_type="study",
        name=sweep.name,
        id=f"{study.user_attrs[TOKEN]}-study",
        resume="allow",
        dir=out,
        mode="offline" if mode == "offline" else "online",
        config={"sweep": dict(sweep.identity), "best_config": config(sweep, found[0]) if found else None},
        settings=wandb.Settings(console="off", x_disable_meta=True),  # the command line holds the storage's password
    )
    frame = table(study, sweep)
    run.log({"trials": wandb.Table(dataframe=frame.astype(object).where(frame.notna(), None))})
    run.log({name: wandb.Image(figure) for name, figure in figures(study, sweep, {}, report_sets(sweep)).items()})
    run.finish()
