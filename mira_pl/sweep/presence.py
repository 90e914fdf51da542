"""Who works on a study: every worker leaves a sign of life in it."""

import os
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

from .storage import unreachable

WORKER = "worker"
PREFIX = "worker:"


def new_name() -> str:
    """`host:pid:token` of a worker of this process; two containers may share a name and begin with the same pid."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def place() -> str | None:
    """Where a pid means what it means here: a namespace of pids on a boot of a kernel; None where that is not said."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


@dataclass(frozen=True)
class Sign:
    """A worker's last sign of life: when, in seconds since 1970, and which process it is at which `place`."""

    seen: float
    pid: int
    place: str | None

    def alive(self, grace: float, now: float) -> bool:
        """Whether it lives, as far as one can tell: its sign is fresh, and its process, if of this place, is there."""
        here = self.place is not None and self.place == place()
        return now - self.seen < grace and (not here or process_exists(self.pid))


@dataclass
class Presence:
    """The sign of life of one worker, at most one in `interval` seconds."""

    study: optuna.Study
    interval: float
    name: str = field(default_factory=new_name)
    written: float = field(default=-1e9)
    trial: int | None = None

    def touch(self, trial: optuna.Trial | None = None) -> None:
        """I am alive, and work on this trial. A storage that is away is not told."""
        number = None if trial is None else trial.number
        if number == self.trial and time.monotonic() < self.written + self.interval:
            return
        try:
            self.sign(time.time(), number)
            if trial is not None and number != self.trial:
                trial.set_user_attr(WORKER, {"name": self.name, "trial": number})
        except Exception as error:
            if not unreachable(error):
                raise
            return
        self.written, self.trial = time.monotonic(), number

    def leave(self) -> None:
        """I am gone."""
        try:
            self.sign(0.0, None)
        except Exception as error:
            if not unreachable(error):
                raise

    def sign(self, seen: float, trial: int | None) -> None:
        """Write it."""
        held = {"seen": seen, "trial": trial, "pid": os.getpid(), "place": place()}
        self.study.set_user_attr(PREFIX + self.name, held)


def signs(attributes: Mapping[str, Any]) -> dict[str, Sign]:
    """The last sign of every worker, by name."""
    return {
        name.removeprefix(PREFIX): Sign(value["seen"], value.get("pid", 0), value.get("place"))
        for name, value in attributes.items()
        if name.startswith(PREFIX)
    }


def process_exists(pid: int) -> bool:
    """At this place."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
