"""The complete trials of a study as rows: means over jobs, with intervals over prompts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from ..experiments.statistics import bootstrap
from .command import REPORT
from .measures import Jobs, Measures
from .study import JOBS, REPORTED, SLOT, best, latest

SHOWN = ("reward", "drift", "clip")
NO_PROMPT = re.compile(r"^\d+/|-s\d+$")
"""Of a job's key: its set and its seed."""
Interval = tuple[float, float, float]
"""Mean, and the ends of its 95 % interval."""


@dataclass(frozen=True)
class Row:
    """A complete trial.

    Attributes:
        intervals: of the measures that every job has.
        held_out: the same on every report set, by its name, where that was run.
        best: no feasible trial beats it.
    """

    slot: int
    params: Mapping[str, Any]
    intervals: Mapping[str, Interval]
    held_out: Mapping[str, Mapping[str, Interval]]
    feasible: bool
    best: bool
    jobs: int
    command: str


def rows(study: optuna.Study) -> list[Row]:
    """Every complete trial, in the order of the queue."""
    front = {trial.number for trial in best(study)}
    done = [trial for trial in latest(study.trials) if trial.state == TrialState.COMPLETE]
    return [row(trial, study.user_attrs, trial.number in front) for trial in done]


def row(trial: FrozenTrial, attributes: Mapping[str, Any], on_front: bool) -> Row:
    """Of one trial."""
    slot, jobs = trial.user_attrs[SLOT], trial.user_attrs[JOBS]
    return Row(
        slot,
        trial.params,
        intervals(jobs),
        {name: intervals(part) for name, part in reported(attributes, slot).items()},
        all(excess <= 0 for excess in trial.constraints.values()),
        on_front,
        len(jobs),
        trial.user_attrs.get("command", ""),
    )


def reported(attributes: Mapping[str, Any], slot: int) -> dict[str, dict[str, Measures]]:
    """What a trial measured on each report set, by the set's name: rewards of two sets have no mean."""
    sets: dict[str, dict[str, Measures]] = {}
    for key, job in attributes.get(f"{REPORTED}{slot}", {}).items():
        index, several, _ = key.rpartition("/")
        sets.setdefault(f"{REPORT}-{index}" if several else REPORT, {})[key] = job
    return sets


def intervals(jobs: Jobs) -> dict[str, Interval]:
    """Of each shown measure that every job has; seeds of a prompt stay together, in whichever set they are."""
    prompts = [NO_PROMPT.sub("", key) for key in jobs]
    found = {}
    for name in SHOWN:
        values = [job[name] for job in jobs.values()]
        if values and all(value is not None for value in values):
            numbers = np.asarray(values, dtype=float)
            found[name] = bootstrap(lambda index, numbers=numbers: float(numbers[index].mean()), prompts)
    return found
