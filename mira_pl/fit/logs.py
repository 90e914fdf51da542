"""Where curves go: W&B, offline unless there is a key, so that nobody is ever asked to log in."""

import netrc
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal
from urllib.parse import urlsplit

import lightning as L
from lightning.pytorch.loggers import WandbLogger

from ..runs import RunFolder

SERVER = "https://api.wandb.ai"
FORBIDDEN = set("/\\#?%:")
"""Characters that no W&B project's name may have."""


@dataclass(frozen=True)
class Wandb:
    """Settings of the W&B run.

    Attributes:
        mode: `auto` is online with a key (WANDB_API_KEY or netrc) and offline without; `disabled` writes nothing.
        project: W&B project.
        group: runs of one study share a group; None is the method's name.
        tags: free labels.
        job_type: of the run within its group; a sweep's trials are `trial`.
        id: of the run; a fit that goes on under the same one continues that run. None is a new one each time.
        name: of the run; None is the run folder's.
    """

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "mira_pl"
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    job_type: str | None = None
    id: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.project) <= 128 or FORBIDDEN & set(self.project):
            raise ValueError(
                f"wandb.project {self.project!r} is no name of a project: "
                f"1 to 128 characters, none of {' '.join(sorted(FORBIDDEN))}"
            )
        if self.id is not None and (not 0 < len(self.id) <= 64 or FORBIDDEN & set(self.id)):
            raise ValueError(f"wandb.id is 1 to 64 characters, none of {' '.join(sorted(FORBIDDEN))}, got {self.id!r}")
        for tag in self.tags:
            if not 0 < len(tag) <= 64:
                raise ValueError(f"wandb.tags are 1 to 64 characters each, got {tag!r}")

    def resolved(self) -> str:
        """The mode without `auto`. W&B's own WANDB_MODE decides over `auto`.

        Raises:
            ValueError: online without a key; W&B would ask for one.
        """
        mode = os.environ.get("WANDB_MODE", "auto") if self.mode == "auto" else self.mode
        if mode == "auto":
            return "online" if has_key() else "offline"
        if mode == "online" and not has_key():
            raise ValueError(
                "W&B has no key to go online: set WANDB_API_KEY or run `wandb login`, or leave wandb.mode out"
            )
        return mode


def has_key() -> bool:
    """Whether W&B could log in without asking."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", SERVER)).netloc
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class RoundCurves(WandbLogger):
    """Beside every column a curve a round, `reward/round-1` and so on: `iteration`, the axis, begins anew in each.

    The plain curve is for grouping runs, which W&B averages at equal iterations; the rounds of a column are a section.
    """

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if "round" in metrics:  # else pictures and tables
            end, shared = f"round-{metrics['round'] + 1:.0f}", ("iteration", "round")
            columns = {f"{name}/{end}": value for name, value in metrics.items() if name not in shared}
            metrics = {**metrics, **columns}
        super().log_metrics(metrics, step)


def make_logger(
    settings: Wandb, folder: Path, config: Mapping[str, Any], method: str, reward: str
) -> RoundCurves | None:
    """The logger, or None where it is disabled."""
    mode = settings.resolved()
    if mode == "disabled":
        return None
    return RoundCurves(
        project=settings.project,
        name=settings.name or folder.name,
        id=settings.id,
        job_type=settings.job_type,
        group=settings.group or method,
        tags=[method, reward, *settings.tags],
        save_dir=folder,
        offline=mode == "offline",
        log_model=False,
        config=dict(config) | {"method": method, "reward_name": reward},
        settings={"console": "off"},
    )


class WandbResults(L.Callback):
    """Declares `iteration` as the axis of every curve, and adds means, contact sheet, filmstrips and records."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        for logger in _wandb(trainer):
            logger.experiment.define_metric("iteration")
            logger.experiment.define_metric("*", step_metric="iteration")

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        records = self.run.records()
        if not trainer.is_global_zero or not records:
            return
        films = [path for r in records if (path := self.run.image_path(r["key"], "film")).exists()][:16]
        columns = [name for name, value in records[0].items() if not isinstance(value, dict)]
        for logger in _wandb(trainer):
            logger.log_image("contact_sheet", [str(self.run.path / "contact.png")])
            if films:
                logger.log_image("filmstrips", [str(film) for film in films], caption=[film.name for film in films])
            logger.log_table("records", columns=columns, data=[[r.get(name) for name in columns] for r in records])
            logger.experiment.summary.update(_means(records))


def _means(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of all jobs, to compare runs by; a failed job has no number and no part."""
    found = {name: [r[name] for r in records if r.get(name) is not None] for name in ("reward", "drift", "clip")}
    return {name: fmean(values) for name, values in found.items() if values}


def _wandb(trainer: L.Trainer) -> list[WandbLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger) and trainer.is_global_zero]
