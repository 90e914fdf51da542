"""Runs in a forked process, and comparisons of run folders."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path


def in_child(body: Callable[[], None]) -> int:
    """Runs `body` in a forked process; its wait status, 9 where it was killed by SIGKILL."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            body()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitpid(child, 0)[1]


def same_files(left: Path, right: Path, kinds: Sequence[str] = ("images", "noise")) -> bool:
    """Whether two runs hold the same bytes in their images and noises."""
    for kind in kinds:
        names = sorted(path.name for path in (left / kind).iterdir())
        if names != sorted(path.name for path in (right / kind).iterdir()):
            return False
        if any((left / kind / name).read_bytes() != (right / kind / name).read_bytes() for name in names):
            return False
    return True


VOLATILE = ("seconds", "peak_memory_bytes", "compute", "versions")


def comparable(records: list[dict]) -> list[dict]:
    """Records without what differs between two equal runs: times, memory, and work that was done twice."""
    return [{name: value for name, value in record.items() if name not in VOLATILE} for record in records]
