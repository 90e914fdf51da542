"""Who works on a study: every worker leaves a sign of life in it."""

import os
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna

from .storage import unreachable

WORKER = "worker"
PREFIX = "worker:"


def own_name() -> str:
    """`host:pid` of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass
class Presence:
    """The sign of life of this worker, at most one in `interval` seconds."""

    study: optuna.Study
    interval: float
    written: float = field(default=-1e9)
    trial: int | None = None

    def touch(self, trial: optuna.Trial | None = None) -> None:
        """I am alive, and work on this trial. A storage that is away is not told."""
        number = None if trial is None else trial.number
        if number == self.trial and time.monotonic() < self.written + self.interval:
            return
        try:
            self.study.set_user_attr(PREFIX + own_name(), {"seen": time.time(), "trial": number})
            if trial is not None and number != self.trial:
                trial.set_user_attr(WORKER, {"name": own_name(), "trial": number})
        except Exception as error:
            if not unreachable(error):
                raise
            return
        self.written, self.trial = time.monotonic(), number

    def leave(self) -> None:
        """I am gone."""
        try:
            self.study.set_user_attr(PREFIX + own_name(), {"seen": 0.0, "trial": None})
        except Exception as error:
            if not unreachable(error):
                raise


def seen(attributes: Mapping[str, Any]) -> dict[str, float]:
    """When each worker was seen last, by name, in seconds since 1970."""
    return {name.removeprefix(PREFIX): value["seen"] for name, value in attributes.items() if name.startswith(PREFIX)}


def alive(name: str, last: float, grace: float, now: float) -> bool:
    """Whether a worker lives, as far as one can tell: a process of this machine is looked up, others must be fresh."""
    found = re.fullmatch(r"(?P<host>.*):(?P<pid>\d+)", name)
    if found is not None and found["host"] == socket.gethostname() and not process_exists(int(found["pid"])):
        return False
    return now - last < grace


def process_exists(pid: int) -> bool:
    """On this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
