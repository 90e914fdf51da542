"""A fit as a subprocess in a process group of its own."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

POLL = 0.25
PATIENCE = 20.0
"""Seconds a child has to end by itself once it is asked to."""


def run(command: Sequence[str], log: Path, environment: Mapping[str, str], look: Callable[[], None]) -> tuple[int, str]:
    """Run a command to its end; whatever leaves this function early, takes the whole process group with it.

    Args:
        command: what is run.
        log: gets everything that it says, appended.
        environment: of the child, whole.
        look: called a few times a second while it runs; an exception from it ends the child.

    Returns:
        Exit code, negative where a signal killed it, and the last line that it said.

    Raises:
        OSError: the log cannot be written.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        start = file.tell()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            env=own(environment), start_new_session=True,
        )  # fmt: skip
        try:
            while process.poll() is None:
                look()
                time.sleep(POLL)
            look()
        finally:
            end(process)
    return process.returncode, last_line(log, start)


def own(environment: Mapping[str, str]) -> dict[str, str]:
    """What the child sees.

    Not W&B's background process, if this process has one: it would end the child's files with itself. And Python's
    output as it is said: kept back to the end, what was printed early would be the last line, before the error's.
    """
    kept = {name: value for name, value in environment.items() if name != "WANDB_SERVICE"}
    return kept | {"PYTHONUNBUFFERED": "1"}


def end(process: subprocess.Popen) -> None:
    """Stop what is left of the child's group: first asked, then killed."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_line(log: Path, start: int) -> str:
    """The last line that is not empty, from an offset on."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", "replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing was said")


def share(slot: int, workers: int, gpus: int, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker's children: one GPU each, or their part of the CPU's cores as threads.

    Args:
        slot: which of the machine's workers.
        workers: of this machine, in all.
        gpus: that are visible to them.
        environment: what the worker has.
    """
    mine = dict(environment)
    if workers == 1:
        return mine
    if gpus:
        visible = mine.get("CUDA_VISIBLE_DEVICES", "").split(",")
        names = visible if visible != [""] else [str(index) for index in range(gpus)]
        return mine | {"CUDA_VISIBLE_DEVICES": names[slot % len(names)]}
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    return {"OMP_NUM_THREADS": str(threads)} | mine
