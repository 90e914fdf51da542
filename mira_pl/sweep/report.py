"""What was chosen on the selection set, run on the report set, which had no part in the choice."""

import os
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from ..runs import RunFolder
from . import child
from .command import REPORT, Fit, Point, fits
from .definition import Sweep
from .measures import trouble
from .space import METHOD
from .study import REPORTED, SLOT, TOKEN, best
from .trial import collected


def report(study: optuna.Study, sweep: Sweep, out: Path) -> dict[int, str]:
    """Fit the report set with every trial that no other one beats, and keep the measures in the study.

    Returns:
        Slot -> `done`, or what went wrong. Nothing where the sweep has no report set.
    """
    if not sweep.report:
        return {}
    left = [trial for trial in best(study) if f"{REPORTED}{trial.user_attrs[SLOT]}" not in study.user_attrs]
    return {trial.user_attrs[SLOT]: one(study, sweep, trial, out) for trial in left}


def one(study: optuna.Study, sweep: Sweep, trial: FrozenTrial, out: Path) -> str:
    """One trial's."""
    method, slot = trial.params.get(METHOD), trial.user_attrs[SLOT]
    keys = {parameter.name: parameter.key for parameter in sweep.space.of(method)}
    values = {keys[name]: value for name, value in trial.params.items() if name != METHOD}
    chain = fits(sweep, Point(slot, method, values), out, REPORT, study.user_attrs[TOKEN])
    for fit in chain:
        if reason := failed(fit, sweep):
            return reason
    study.set_user_attr(f"{REPORTED}{slot}", collected(chain))
    return "done"


def failed(fit: Fit, sweep: Sweep) -> str | None:
    """Run a fit; why it has no result, or None."""
    log = fit.out.with_name(f"{fit.out.name}.log")
    code, said = child.run(fit.executable, log, os.environ, lambda: None)
    return f"exit code {code}: {said}" if code else trouble(RunFolder(fit.out).records(), sweep.measured)
