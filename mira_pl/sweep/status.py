"""How a study stands, as rows of two columns."""

import time
from collections import Counter
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from .definition import Sweep
from .presence import signs
from .study import REASON, best, counted, latest, named, spent
from .worker import shown

Rows = list[tuple[str, str]]
REASONS = 5
"""Failed trials that are shown with their reasons."""


def rows(study: optuna.Study, sweep: Sweep) -> Rows:
    """Trials by state, workers alive, best trials, minutes left, what went wrong."""
    trials = study.trials
    now = time.time()
    workers = [name for name, sign in signs(study.user_attrs).items() if sign.alive(sweep.grace, now)]
    slots = latest(trials)
    states = Counter(trial.state for trial in slots)
    cost = spent(trials)
    found: Rows = [("study", study.study_name)]
    found += [(f"trials {state.name.lower()}", str(states[state])) for state in TrialState if states[state]]
    found.append(("retries", str(len(counted(trials)) - len(slots))))
    found.append(("workers alive", f"{len(workers)}" + (f" ({', '.join(sorted(workers))})" if workers else "")))
    found.append(("hours of trials", f"{cost.hours:.2f}"))
    found.append(("U-Net calls", f"{cost.unet_calls:,.0f}"))
    left = states[TrialState.RUNNING]
    if limit := cost.exceeds(sweep):
        found.append(("stopped", limit))
    else:
        left += states[TrialState.WAITING]
    if left:
        found.append(("minutes left", minutes_left(slots, left, len(workers))))
    found += [(f"best: {named(trial)}", result(trial, list(sweep.objectives))) for trial in best(study)]
    failed = [trial for trial in slots if trial.state == TrialState.FAIL]
    for trial in failed[-REASONS:]:
        found.append((f"failed: {named(trial)}", trial.user_attrs.get(REASON, "its worker was lost")))
    return found


def minutes_left(slots: Sequence[FrozenTrial], left: int, workers: int) -> str:
    """At the mean pace of the finished trials."""
    durations = [trial.duration.total_seconds() for trial in slots if trial.state.is_finished() and trial.duration]
    if not durations or not workers:
        return "unknown: no worker is alive" if not workers else "unknown: no trial is finished"
    return f"{left * sum(durations) / len(durations) / workers / 60:.1f}"


def result(trial: FrozenTrial, names: Sequence[str]) -> str:
    """Objectives and parameters in one line."""
    values = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, trial.values, strict=True))
    return f"{values}; {shown(trial.params)}"
