"""Workers: processes that take trials from the queue until it is empty, here and on other machines."""

import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

from . import child
from .definition import Sweep
from .presence import Presence, signs
from .recovery import recover
from .storage import RETRY, redact, unreachable
from .study import REASON, connect, counted, equip, join, named, spent
from .trial import Objective, TrialFailed

PAUSE = 5.0
"""Seconds between two looks at a queue that is empty while others work."""


@dataclass(frozen=True)
class Post:
    """A worker's place: which of the machine's workers it is, and how many trials it may take at most."""

    slot: int = 0
    workers: int = 1
    trials: int | None = None


def work(sweep: Sweep, storage: str, out: Path, post: Post) -> None:
    """Take trials until none is left: neither one that waits nor one whose worker may yet be lost."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    obey()
    study = join(sweep, connect(sweep, storage), patience=60.0)
    presence = Presence(study, sweep.heartbeat)
    presence.touch()
    equip(study, sweep, place_among(presence.name, signs(study.user_attrs)))
    environment = child.share(post.slot, post.workers, torch.cuda.device_count(), os.environ)
    objective = Objective(sweep, out, environment, presence.touch)
    try:
        while post.trials is None or len(objective.attempts) < post.trials:
            if not step(study, sweep, objective, presence):
                break
    finally:
        presence.leave()


def place_among(name: str, known: Collection[str]) -> str:
    """Different for every worker that has signed: two that see the same names have different places among them."""
    names = sorted({*known, name})
    return f"{len(names)} {names.index(name)}"


def step(study: optuna.Study, sweep: Sweep, objective: Objective, presence: Presence) -> bool:
    """One trial, or a pause where others still work; False where nothing is left to do."""
    try:
        trials = study.get_trials(deepcopy=False)
        if limit := spent(trials).exceeds(sweep):
            say(limit)
            return False
        states = {trial.state for trial in counted(trials)}
        if TrialState.WAITING in states:
            one(study, objective)
            return True
        presence.touch()
        if TrialState.RUNNING not in states:
            return False
        recover(study, sweep)
    except Exception as error:
        if not unreachable(error):
            raise
        say(f"the storage is away: {redact(str(error).splitlines()[0])}; trying again")
    time.sleep(min(PAUSE, sweep.heartbeat))
    return True


def one(study: optuna.Study, objective: Objective) -> None:
    """One trial from the queue."""
    begun = len(objective.attempts)
    try:
        study.optimize(objective, n_trials=1, catch=(TrialFailed,))
    except KeyboardInterrupt:
        if len(objective.attempts) > begun and given_up(trial := study.trials[objective.attempts[-1]]):
            RETRY(study, trial)
        raise
    except Exception as error:
        if unreachable(error) or len(objective.attempts) == begun:
            raise
        trial = study.trials[objective.attempts[-1]]
        if not given_up(trial):
            raise
        say(f"{named(trial)} was given up while it ran, and is done again")
        return
    for number in objective.attempts[begun:]:
        say(outcome(study.trials[number]))


def given_up(trial: FrozenTrial) -> bool:
    """Whether it has ended without a result and without a reason."""
    return trial.state == TrialState.FAIL and REASON not in trial.user_attrs


def outcome(trial: FrozenTrial) -> str:
    """A finished trial in one line."""
    if trial.state == TrialState.COMPLETE:
        return f"{named(trial)}: {', '.join(f'{value:.4g}' for value in trial.values)} for {shown(trial.params)}"
    return f"{named(trial)} {trial.state.name.lower()}: {trial.user_attrs.get(REASON, 'no reason known')}"


def shown(params: Mapping[str, Any]) -> str:
    """Parameters in one line."""
    texts = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in params.items()}
    return ", ".join(f"{name} {text}" for name, text in texts.items())


def say(line: str) -> None:
    """Progress, with the worker that makes it."""
    print(f"[{socket.gethostname()}:{os.getpid()}] {redact(line)}", file=sys.stderr, flush=True)


def interrupt(signum: int, frame: Any) -> None:
    """SIGTERM is Ctrl-C: the child is stopped and the trial queued again, which a second one does not interrupt."""
    for known in (signal.SIGTERM, signal.SIGINT):
        signal.signal(known, signal.SIG_IGN)
    raise KeyboardInterrupt


def obey() -> None:
    """Let both signals end the work of this process in order."""
    for known in (signal.SIGTERM, signal.SIGINT):
        signal.signal(known, interrupt)


def quietly(sweep: Sweep, storage: str, out: Path, post: Post) -> None:
    """`work`, as the whole of a process: an interruption is no error."""
    try:
        work(sweep, storage, out, post)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception:  # its process ends here: what went wrong is said without the storage's password
        sys.stderr.write(redact(traceback.format_exc()))
        raise SystemExit(1) from None


def work_together(sweep: Sweep, storage: str, out: Path, workers: int, trials: int | None) -> None:
    """So many workers on this machine; returns when the last one has ended. The storage's URL goes through a pipe.

    Raises:
        OSError: a worker ended otherwise than in order; the others have done what they could.
    """
    if workers == 1:
        work(sweep, storage, out, Post(0, 1, trials))
        return
    context = multiprocessing.get_context("forkserver")  # no thread and no connection of this process goes along
    context.set_forkserver_preload([__name__])
    processes = [
        context.Process(target=quietly, args=(sweep, storage, out, Post(slot, workers, trials)))
        for slot in range(workers)
    ]
    for process in processes:
        process.start()
    obey()
    try:
        for process in processes:
            process.join()
    except KeyboardInterrupt:
        for process in processes:
            if process.is_alive():
                process.terminate()
        for process in processes:
            process.join()
        raise
    if lost := [process.exitcode for process in processes if process.exitcode]:
        codes = ", ".join(map(str, lost))
        raise OSError(f"{len(lost)} of {workers} workers were lost (exit codes {codes}): the same command goes on")
