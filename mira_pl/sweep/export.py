"""The study as a table, and its best configuration as YAML that `fit` takes."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import yaml
from optuna.trial import FrozenTrial, TrialState

from ..runs import write_atomic
from .check import parsed
from .definition import Sweep
from .measures import MEASURES, Measures
from .results import reported
from .space import METHOD
from .study import JOBS, REASON, SLOT, best, latest, named

SKIPPED = ("config", "out", "wandb", "overwrite")


def table(study: optuna.Study, sweep: Sweep) -> pd.DataFrame:
    """One row a trial of the budget: state, objectives, other measures, parameters, report, constraints, command."""
    front = {trial.number for trial in best(study)}
    attributes = study.user_attrs
    return pd.DataFrame([row(trial, sweep, trial.number in front, attributes) for trial in latest(study.trials)])


def row(trial: FrozenTrial, sweep: Sweep, on_front: bool, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Of one trial; `attributes` are the study's, where the report sets stand."""
    finished = dict(zip(sweep.objectives, trial.values or [], strict=False))
    means = mean_measures(trial.user_attrs.get(JOBS, {}).values()) if trial.state == TrialState.COMPLETE else {}
    held_out = {
        f"{name}: {measure}": value
        for name, jobs in reported(attributes, trial.user_attrs[SLOT]).items()
        for measure, value in mean_measures(jobs.values()).items()
    }
    return {
        "trial": named(trial),
        "number": trial.number,
        "state": trial.state.name.lower(),
        "best": on_front,
        **{name: finished.get(name, means.get(name)) for name in dict.fromkeys([*sweep.objectives, *means])},
        **trial.params,
        **held_out,
        **{f"excess of {name}": value for name, value in trial.constraints.items()},
        "jobs": len(trial.user_attrs.get(JOBS, {})),
        "duration": None if trial.duration is None else trial.duration.total_seconds(),
        "fit_seconds": trial.user_attrs.get("seconds"),
        "reason": trial.user_attrs.get(REASON),
        "command": trial.user_attrs.get("command"),
    }


def mean_measures(jobs: Collection[Measures]) -> dict[str, float]:
    """Of what every job has."""
    columns = {name: [job.get(name) for job in jobs] for name in MEASURES}
    numbers = {name: [value for value in column if value is not None] for name, column in columns.items()}
    return {
        name: math.fsum(found) / len(found)
        for name, found in numbers.items()
        if found and len(found) == len(columns[name])
    }


def config(sweep: Sweep, trial: FrozenTrial) -> dict[str, Any]:
    """What `fit` takes to run a trial as it was measured, but on the data of the base fit.

    Of several sets of the selection what they have in common counts.
    """
    method = trial.params.get(METHOD)
    names = {parameter.name: parameter.key for parameter in sweep.space.of(method)}
    values = {names[name]: value for name, value in trial.params.items() if name != METHOD}
    first, *others = sweep.selection or ({},)
    shared = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    overlay = {key: value for key, value in shared.items() if not key.startswith("data.")}
    found = parsed(sweep, method, values, overlay)
    return {name: content for name, content in found.items() if name not in SKIPPED}


def write(study: optuna.Study, sweep: Sweep, out: Path) -> list[Path]:
    """`trials.csv`, and `best.yaml`; with several objectives `best-trial-N.yaml` of all trials on the front too.

    Raises:
        ValueError: no feasible trial is complete; the table is written then.
    """
    written = [out / "trials.csv"]
    write_atomic(written[0], table(study, sweep).to_csv(index=False).encode())
    found = best(study)
    if not found:
        raise ValueError(f"no complete trial fulfils the constraints: there is no best one; the table is {written[0]}")
    places: Sequence[tuple[str, FrozenTrial]] = [("best", found[0])]
    if len(sweep.objectives) > 1:
        places = [*places, *((f"best-{named(trial)}", trial) for trial in found)]
    for name, trial in places:
        path = out / f"{name}.yaml"
        head = f"# {named(trial)} of the sweep {sweep.name}: {values(trial, sweep)}\n"
        write_atomic(path, (head + yaml.safe_dump(config(sweep, trial), sort_keys=False, allow_unicode=True)).encode())
        written.append(path)
    return written


def values(trial: FrozenTrial, sweep: Sweep) -> str:
    """Objectives in one line."""
    return ", ".join(f"{name} {value:.6g}" for name, value in zip(sweep.objectives, trial.values, strict=True))
