"""A study and its queue: every trial of the budget waits in it from the start and is taken by one worker alone."""

import re
import time
import uuid
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from optuna.pruners import BasePruner, NopPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from .command import trial_name
from .definition import Sweep
from .difference import difference
from .space import METHOD
from .storage import file_storage, open_storage

TRIALS = 20
"""Of a sampler that never comes to an end, where the budget names no number."""
SLOT, REASON, READY, IDENTITY, JOBS, TOKEN = "slot", "reason", "ready", "definition", "jobs", "token"
REPORTED = "report:"
CREATION = 60.0
"""Seconds that another process has to fill the queue of the study it created."""
SHOWN = 12
"""Lines of a difference that an error shows."""


def default_storage(sweep: Sweep, out: Path) -> str:
    """The storage of a sweep file that names none: a file in the folder of the results."""
    return sweep.storage or file_storage(out / "study.db")


def connect(sweep: Sweep, storage: str) -> BaseStorage:
    """The storage, with the sweep's signs of life."""
    return open_storage(storage, sweep.heartbeat, sweep.grace)


def create_or_join(sweep: Sweep, storage: BaseStorage, jobs: Sequence[str]) -> optuna.Study:
    """The study of a sweep file; a new one gets its queue, an old one more where the budget has grown.

    Args:
        jobs: keys of all jobs of a trial, in their order.

    Raises:
        ValueError: the study was made from another sweep file.
    """
    directions = [StudyDirection[way.upper()] for way in sweep.objectives.values()]
    try:
        study = optuna.create_study(study_name=sweep.name, storage=storage, directions=directions)
    except optuna.exceptions.DuplicatedStudyError:
        study = join(sweep, storage, CREATION)
    else:
        study.set_metric_names(list(sweep.objectives))
        plain = re.sub(r"[^\w-]", "_", sweep.name)[:32]  # W&B takes ids of 64 characters
        study.set_user_attr(TOKEN, f"{plain}-{uuid.uuid4().hex[:6]}")
        study.set_user_attr(JOBS, list(jobs))
        study.set_user_attr(IDENTITY, sweep.identity)
    fill(study, sweep)
    study.set_user_attr(READY, True)
    return study


def join(sweep: Sweep, storage: BaseStorage, patience: float = 0.0) -> optuna.Study:
    """The study that another process has created.

    Args:
        patience: seconds to wait for the one that creates it; then it counts as lost.

    Raises:
        ValueError: there is none, or it was made from another sweep file.
    """
    study = joined(sweep, storage)
    until = time.monotonic() + patience
    while READY not in study.user_attrs and time.monotonic() < until:
        time.sleep(0.5)
    refuse_another(study, sweep)
    return study


def look(sweep: Sweep, storage: BaseStorage) -> tuple[optuna.Study, Sweep]:
    """The study, and the sweep file with the --set that the study was made with: to look at it nobody repeats them."""
    study = joined(sweep, storage)
    made = study.user_attrs.get(IDENTITY, {}).get("set", {})
    sweep = replace(sweep, settings=made, identity={**sweep.identity, "set": made})
    refuse_another(study, sweep)
    return study, sweep


def joined(sweep: Sweep, storage: BaseStorage) -> optuna.Study:
    """The study of that name, whatever it is."""
    try:
        return optuna.load_study(study_name=sweep.name, storage=storage)
    except KeyError:
        raise ValueError(f"no study {sweep.name!r} in this storage: create it with `sweep run`") from None


def refuse_another(study: optuna.Study, sweep: Sweep) -> None:
    """Raise with the difference where the study was made from another sweep file."""
    if IDENTITY not in study.user_attrs:
        raise ValueError(f"the study {sweep.name!r} was not made by a sweep file: take another name or storage")
    changed = difference(study.user_attrs[IDENTITY], sweep.identity)
    if changed:
        more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise ValueError(
            f"the study {sweep.name!r} was made from another sweep file (study -> file): "
            f"{'; '.join(changed[:SHOWN])}{more}. Give the file another name:, or take the old file"
        )


def equip(study: optuna.Study, sweep: Sweep, worker: str) -> None:
    """Sampler and pruner of this process. Workers draw from different seeds, or they would propose the same."""
    study.sampler = sampler(sweep, zlib.crc32(f"{sweep.seed} {worker}".encode()))
    study.pruner = pruner(sweep)


def sampler(sweep: Sweep, seed: int) -> BaseSampler:
    """TPE where trials learn from each other; a queue of points, grid or random, leaves nothing to sample."""
    if sweep.sampler == "tpe":
        return TPESampler(seed=seed, group=bool(sweep.space.methods), multivariate=True)
    return RandomSampler(seed)


def pruner(sweep: Sweep) -> BasePruner:
    """Paired over the jobs. With several objectives Optuna prunes nothing: see `measures.dominated_by`."""
    if sweep.stop is None or len(sweep.objectives) > 1:
        return NopPruner()
    return WilcoxonPruner(p_threshold=sweep.stop.p, n_startup_steps=sweep.stop.after)


def planned(sweep: Sweep) -> list[dict]:
    """What is fixed of every trial of the budget: all of a grid or of random points, the method before TPE."""
    if sweep.sampler == "grid":
        return sweep.space.grid()[: sweep.budget.trials]
    amount = sweep.budget.trials or TRIALS
    if sweep.sampler == "random":
        return sweep.space.random(amount, sweep.seed)
    methods = list(sweep.space.methods)
    return [{METHOD: methods[slot % len(methods)]} if methods else {} for slot in range(amount)]


def fill(study: optuna.Study, sweep: Sweep) -> None:
    """Queue the trials that the budget allows and the study does not hold; see `counted` for two that do so at once.

    Raises:
        ValueError: the study holds more already.
    """
    held = {trial.user_attrs[SLOT] for trial in counted(study.trials)}
    if sweep.budget.trials is not None and sweep.budget.trials < len(held):
        raise ValueError(
            f"budget.trials is {sweep.budget.trials}, but the queue of {sweep.name!r} holds {len(held)} trials and "
            f"only grows: give {len(held)} or more, or let `sweep worker --budget.trials N` do N of them"
        )
    for slot, fixed in enumerate(planned(sweep)):
        if slot not in held:
            study.enqueue_trial(fixed, user_attrs={SLOT: slot})


def counted(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Those of the queue, of trials in the order of their numbers.

    Two workers at its end may both see the last one; the later one's is no trial. Two `sweep run` may fill a slot
    twice; the first trial of it and its retries count.
    """
    queued = [trial for trial in trials if SLOT in trial.user_attrs]
    firsts: dict[int, int] = {}
    return [trial for trial in queued if firsts.setdefault(trial.user_attrs[SLOT], origin(trial)) == origin(trial)]


def named(trial: FrozenTrial) -> str:
    """What its folder is called; a retry has another number and the same name."""
    return trial_name(trial.user_attrs[SLOT])


def origin(trial: FrozenTrial) -> int:
    """The number of the trial that it does again, or its own."""
    number = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if number is None else number


def latest(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """One trial a slot: the complete one, or else its last attempt."""
    found: dict[int, FrozenTrial] = {}
    for trial in counted(trials):
        held = found.get(trial.user_attrs[SLOT])
        if held is None or held.state != TrialState.COMPLETE:
            found[trial.user_attrs[SLOT]] = trial
    return [found[slot] for slot in sorted(found)]


def best(study: optuna.Study) -> list[FrozenTrial]:
    """The feasible trials that no other one beats, the best by the first objective in front."""
    slots = {trial.number for trial in latest(study.trials)}
    first = study.directions[0] == StudyDirection.MAXIMIZE
    if len(study.directions) > 1:
        front = [trial for trial in study.best_trials if trial.number in slots]
        return sorted(front, key=lambda trial: trial.values[0], reverse=first)
    try:
        return [study.best_trial]
    except ValueError:
        return []


@dataclass(frozen=True)
class Spent:
    """What a study has cost so far."""

    hours: float
    unet_calls: float

    def exceeds(self, sweep: Sweep) -> str | None:
        """The limit that is reached, or None."""
        for name, value in (("hours", self.hours), ("unet_calls", self.unet_calls)):
            limit = getattr(sweep.budget, name)
            if limit is not None and value >= limit:
                return f"budget.{name} of {limit:g} is spent"
        return None


def spent(trials: Iterable[FrozenTrial]) -> Spent:
    """Of all trials, retries and failed ones too. A retry counts the calls of the attempts before it once more."""
    seconds, calls = 0.0, dict[int, float]()
    for trial in trials:
        if trial.duration is not None:
            seconds += trial.duration.total_seconds()
        slot = trial.user_attrs.get(SLOT, -1)
        calls[slot] = max(calls.get(slot, 0.0), trial.user_attrs.get("unet_calls", 0.0))
    return Spent(seconds / 3600, sum(calls.values()))
