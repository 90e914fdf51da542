"""One trial: its fits one after the other, their records reported while they come, the result written, then told."""

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from ..runs import RunFolder, write_atomic
from . import child
from .command import FIT, SELECTION, Fit, Point, fits, trial_folder, trial_name
from .definition import Sweep
from .measures import Jobs, dominated_by, means, measures, trouble
from .storage import unreachable
from .study import JOBS, REASON, SLOT, TOKEN, counted

RESTARTS = 2
"""How often a child that a signal killed is started again: it may have been lost, or be too large for the memory."""
PATIENCE = 900.0
"""Seconds that a storage may be away."""
LOOK = 1.0
"""Seconds between two looks at the records of a fit that runs."""


class TrialFailed(Exception):
    """A trial that has no result; the message goes into the study. The others go on."""


class Surplus(TrialFailed):
    """No trial of the budget: the queue was empty when it was asked for, or two `sweep run` filled it at once."""


@dataclass
class Objective:
    """What a worker's `study.optimize` calls.

    Attributes:
        sweep: the sweep file.
        out: the folder of the study.
        environment: of the fits.
        alive: called while a fit runs, with the number of its trial.
        attempts: numbers of the trials that this worker has begun.
    """

    sweep: Sweep
    out: Path
    environment: Mapping[str, str]
    alive: Callable[[optuna.Trial], None]
    attempts: list[int] = field(default_factory=list)

    def __call__(self, trial: optuna.Trial) -> tuple[float, ...]:
        if trial.number not in {one.number for one in counted(trial.study.get_trials(deepcopy=False))}:
            raise Surplus("the queue was empty, or holds its slot twice")
        self.attempts.append(trial.number)
        method, values = self.sweep.space.suggest(trial)
        point = Point(trial.user_attrs[SLOT], method, values)
        chain = fits(self.sweep, point, self.out, SELECTION, trial.study.user_attrs[TOKEN])
        patiently(lambda: trial.set_user_attr("command", reproducing(chain)))
        self.alive(trial)
        watch = Watch(self.sweep, trial, chain)
        try:
            result = self.solve(watch)
        except (TrialFailed, optuna.TrialPruned, OSError, ValueError) as error:
            reason = str(error)
            patiently(lambda: trial.set_user_attr(REASON, reason))
            if isinstance(error, optuna.TrialPruned):
                raise
            raise TrialFailed(reason) from error
        finally:
            self.tell(watch)
        for limit in self.sweep.constraints:
            patiently(lambda limit=limit: trial.set_constraint(limit.text, limit.excess(result)))
        return tuple(result[name] for name in self.sweep.objectives)

    def solve(self, watch: "Watch") -> dict[str, float]:
        """Run all fits; the result is on the disk before anyone is told."""
        for fit in watch.chain:
            self.run(fit, watch)
        result = means(watch.jobs(), self.sweep.measured)
        content = {"values": result, "params": watch.trial.params, "command": reproducing(watch.chain)}
        folder = trial_folder(self.out, watch.trial.user_attrs[SLOT])
        write_atomic(folder / "result.json", json.dumps(content | {"jobs": watch.jobs()}, indent=1).encode())
        return result

    def run(self, fit: Fit, watch: "Watch") -> None:
        """A fit to its end.

        Raises:
            TrialFailed: it failed, or what it wrote is no result.
            optuna.TrialPruned: the trial is hopeless.
        """
        folder, log = RunFolder(fit.out), fit.out.with_name(f"{fit.out.name}.log")
        while folder.busy():  # a worker was lost, its child goes on
            self.alive(watch.trial)
            time.sleep(LOOK)
        code, said = 0, ""
        for _ in range(1 + RESTARTS):
            began = time.monotonic()
            code, said = child.run(fit.executable, log, self.environment, lambda: self.look(watch))
            watch.seconds += time.monotonic() - began
            if code >= 0:
                break
        watch.look(final=True)
        if code < 0:
            raise TrialFailed(f"killed by signal {-code} (out of memory, or by hand) {1 + RESTARTS} times; see {log}")
        if code:
            raise TrialFailed(f"exit code {code}: {said.removeprefix('mira_pl: ')}")
        if reason := trouble(folder.records(), self.sweep.measured):
            raise TrialFailed(reason)

    def look(self, watch: "Watch") -> None:
        """Once in a poll of the child."""
        self.alive(watch.trial)
        watch.look()

    def tell(self, watch: "Watch") -> None:
        """What is known of the jobs, into the study: also of a trial that failed or was stopped."""
        try:
            jobs = watch.jobs()
        except (OSError, ValueError):  # the reason why it failed
            jobs = {}
        calls = sum(job["unet_calls"] or 0.0 for job in jobs.values())
        found: dict[str, Any] = {JOBS: jobs, "seconds": watch.seconds, "unet_calls": calls}
        for name, value in found.items():
            patiently(lambda name=name, value=value: watch.trial.set_user_attr(name, value))


@dataclass
class Watch:
    """Reads the records of a trial's fits as they come, reports each once, and ends a hopeless trial.

    `seconds` are those of its children.
    """

    sweep: Sweep
    trial: optuna.Trial
    chain: Sequence[Fit]
    reported: set[str] = field(default_factory=set)
    looked: float = 0.0
    seconds: float = 0.0

    def jobs(self) -> dict[str, dict[str, float | None]]:
        """Of those that are done."""
        return collected(self.chain)

    def look(self, final: bool = False) -> None:
        """Report what is new.

        Raises:
            optuna.TrialPruned: nothing good can come of the trial.
        """
        if self.sweep.stop is None or (not final and time.monotonic() < self.looked + LOOK):
            return
        self.looked = time.monotonic()
        jobs = self.jobs()
        if set(jobs) <= self.reported:
            return
        try:
            reason = self.paired(jobs) if len(self.sweep.objectives) == 1 else self.dominated(jobs)
        except Exception as error:
            if not unreachable(error):
                raise
            return  # the next look tells it
        self.reported |= set(jobs)
        if reason is not None and len(jobs) < len(self.trial.study.user_attrs[JOBS]):
            raise optuna.TrialPruned(reason)

    def paired(self, jobs: Jobs) -> str | None:
        """One objective: a report a job, at the job's place in the set, and Wilcoxon's test against the best trial."""
        places = {key: place for place, key in enumerate(self.trial.study.user_attrs[JOBS])}
        objective = next(iter(self.sweep.objectives))
        for key in set(jobs) - self.reported:
            if (value := jobs[key][objective]) is not None:
                self.trial.report(value, places[key])
        return "worse than the best trial, by the signed-rank test over jobs" if self.trial.should_prune() else None

    def dominated(self, jobs: Jobs) -> str | None:
        """Several objectives: some finished trial was better in all of them, on every job so far, and is allowed."""
        complete = self.trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        done = [other for other in complete if all(excess <= 0 for excess in other.constraints.values())]
        others = {other.user_attrs[SLOT]: other.user_attrs[JOBS] for other in counted(done) if JOBS in other.user_attrs}
        assert self.sweep.stop is not None
        winner = dominated_by(jobs, others, self.sweep.objectives, self.sweep.stop.after)
        return None if winner is None else f"{trial_name(winner)} was better in every objective on all {len(jobs)} jobs"


def collected(chain: Sequence[Fit]) -> dict[str, dict[str, float | None]]:
    """Measures of all jobs that have a record, by key; those of several fits have the fit's number before it."""
    found = {}
    for index, fit in enumerate(chain):
        for record in RunFolder(fit.out).records():
            key = record["key"] if len(chain) == 1 else f"{index}/{record['key']}"
            found[key] = measures(record)
    return found


def reproducing(chain: Sequence[Fit]) -> str:
    """What a user types to do the trial again; W&B's identity is the trial's own and left out."""
    return " && ".join(shell([*FIT, *without_identity(fit.arguments)]) for fit in chain)


def without_identity(arguments: Sequence[str]) -> list[str]:
    """The flags but for those that make the W&B run the trial's."""
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    return [word for flag, value in pairs if not flag.startswith("--wandb.") for word in (flag, value)]


def shell(words: Sequence[str]) -> str:
    """Quoted for a shell."""
    return shlex.join(words)


def patiently(call: Callable[[], Any]) -> None:
    """Do something with the storage, and again where it is away for a while: a trial's hours are worth waiting for."""
    until, pause = time.monotonic() + PATIENCE, 1.0
    while True:
        try:
            call()
            return
        except Exception as error:
            if not unreachable(error) or time.monotonic() > until:
                raise
        time.sleep(pause)
        pause = min(30.0, 2 * pause)
