"""The fits of a trial: their commands, which reproduce it, and where they write."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .definition import Overlay, Sweep

FIT = ("python", "-m", "mira_pl", "fit")
SELECTION, REPORT = "selection", "report"


@dataclass(frozen=True)
class Point:
    """A trial's place in the space. `slot` is its number in the queue, which its retries keep."""

    slot: int
    method: str | None
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Fit:
    """One fit of a trial: its command as a user types it, and its run folder."""

    arguments: tuple[str, ...]
    out: Path

    @property
    def executable(self) -> list[str]:
        """The command under the Python that runs now."""
        return [sys.executable, *FIT[1:], *self.arguments]


def trial_name(slot: int) -> str:
    """What a trial and its retries are called, and their folder is."""
    return f"trial-{slot:04d}"


def trial_folder(out: Path, slot: int) -> Path:
    """Where a trial writes, and its retries go on."""
    return out / trial_name(slot)


def arguments(sweep: Sweep, method: str | None, values: Overlay, overlay: Overlay) -> list[str]:
    """The flags that make a fit: base and method, what its set says, --set, and the trial's values."""
    configs = [*sweep.base]
    if method is not None and (config := sweep.space.methods[method].config) is not None:
        configs.append(config)
    named = [word for config in configs for word in ("--config", str(config))]
    settings = {**overlay, **sweep.settings, **values}
    return [*named, *(word for key, value in settings.items() for word in (f"--{key}", spell(value)))]


def fits(sweep: Sweep, point: Point, out: Path, part: str, study: str) -> list[Fit]:
    """The fits of a trial on its selection or its report set."""
    found = []
    overlays = sweep.selection if part == SELECTION else sweep.report
    for index, overlay in enumerate(overlays):
        name = set_name(part, index, len(overlays))
        folder = trial_folder(out, point.slot) / name
        logged = {
            "wandb.group": sweep.name,
            "wandb.job_type": "trial" if part == SELECTION else REPORT,
            "wandb.id": f"{study}-{point.slot:04d}-{name}",
            "wandb.name": f"{folder.parent.name}/{name}",
            "trainer.enable_progress_bar": False,
            "out": folder,
        }
        flags = [word for key, value in logged.items() for word in (f"--{key}", spell(value))]
        found.append(Fit((*arguments(sweep, point.method, point.values, overlay), *flags), folder))
    return found


def set_name(part: str, index: int, amount: int) -> str:
    """The folder of one of so many sets of the selection or of the report."""
    return part if amount == 1 else f"{part}-{index}"


def spell(value: Any) -> str:
    """A value as the fit's flags take it."""
    return str(value) if isinstance(value, str | Path) else json.dumps(value, ensure_ascii=False)
