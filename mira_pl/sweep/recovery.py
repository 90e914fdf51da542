"""Trials whose workers were lost go back into the queue."""

import time
import warnings
from collections.abc import Mapping

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from .definition import Sweep
from .presence import WORKER, Sign, signs
from .storage import RETRY
from .study import REASON, counted


def recover(study: optuna.Study, sweep: Sweep) -> None:
    """What a worker does that has nothing else to do: by heartbeat, or where the storage has none, by signs of life."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        fail_stale_trials(study)
    reap(study, sweep.grace)


def reap(study: optuna.Study, grace: float) -> list[int]:
    """Queue again what runs without a worker, and what lost its place between two of them.

    Args:
        study: on any storage.
        grace: seconds without a sign of life after which a worker counts as lost.

    Returns:
        Numbers of the trials that were given up.
    """
    given_up = []
    workers = signs(study.user_attrs)
    for trial in counted(study.trials):
        if trial.state == TrialState.RUNNING and not worked_on(trial, workers, grace):
            try:
                study.tell(trial.number, state=TrialState.FAIL)
            except (ValueError, UpdateFinishedTrialError):  # it has just ended, or someone else was faster
                continue
            RETRY(study, study.trials[trial.number])
            given_up.append(trial.number)
    for trial in dropped(study, grace):
        RETRY(study, trial)
        given_up.append(trial.number)
    return given_up


def worked_on(trial: FrozenTrial, workers: Mapping[str, Sign], grace: float) -> bool:
    """Whether its worker lives; one that has not yet signed gets the grace period to do so."""
    signed = trial.user_attrs.get(WORKER, {})
    name = signed.get("name") if signed.get("trial") == trial.number else None  # a retry has the name of the lost one
    now = time.time()
    if name is None or name not in workers:
        began = trial.datetime_start
        return began is not None and now - began.timestamp() < grace
    return workers[name].alive(grace, now)


def dropped(study: optuna.Study, grace: float) -> list[FrozenTrial]:
    """Given up without being queued again, long enough ago: who gave them up was lost itself."""
    trials = counted(study.trials)
    followed = {number for trial in trials for number in RetryHeartbeatStaleTrialCallback.retry_history(trial)}
    now = time.time()
    return [
        trial
        for trial in trials
        if trial.state == TrialState.FAIL
        and REASON not in trial.user_attrs
        and trial.number not in followed
        and trial.datetime_complete is not None
        and now - trial.datetime_complete.timestamp() >= grace
    ]
