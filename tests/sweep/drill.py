"""A sweep whose workers are processes of their own, to be killed; its study, to be counted."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path

import optuna
import yaml
from optuna.trial import TrialState

from mira_pl.__main__ import main
from mira_pl.sweep import command
from mira_pl.sweep.definition import load
from mira_pl.sweep.study import SLOT, connect, counted

HERE = Path(__file__).parent
BASE = str(HERE.parents[1] / "configs" / "emoji_darkness.yaml")
PROMPTS = ["a white cat", "a white goose", "a white pig"]
FAST = ["--set", "model.backbone.steps=2", "--set", "model.iterations=2", "--set", "wandb.mode=disabled"]


@dataclass
class Drill:
    """`fit` is the program that trials run instead of `fit`; None is the real one."""

    folder: Path
    storage: str
    fit: str | None = "quick_fit.py"

    def write(self, **content: object) -> None:
        """The sweep file: a grid of betas, heartbeats of a second."""
        default = {
            "base": BASE,
            "sampler": "grid",
            "space": {"model.objective.beta": [0.0, 0.5, 1.0, 2.0]},
            "selection": {"data.prompts": PROMPTS, "data.template": "{}", "data.seeds": [0], "data.batch_size": 1},
            "heartbeat": 1,
            "grace": 15,  # less, and on a busy machine live workers are taken for lost
        }
        (self.folder / "drill.yaml").write_text(yaml.safe_dump(default | content))

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def start(self, what: str = "run", *flags: str, **environment: str) -> ForkProcess:
        """A subcommand in a forked process, so that nothing is imported again; what it says goes into a file."""
        settings = FAST if what in ("run", "worker") else []
        words = ["sweep", what, "--config", str(self.folder / "drill.yaml"), "--out", str(self.out), *settings, *flags]
        process = ForkProcess(target=self.obey, args=([*words, "--storage", self.storage], environment))
        process.start()
        return process

    def obey(self, words: list[str], environment: dict[str, str]) -> None:
        """The forked process."""
        os.setsid()
        os.environ |= environment
        said = os.open(self.folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(said, number)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        if self.fit is not None:
            command.FIT = ("python", str(HERE / self.fit))
        code = main(words)
        sys.stdout.flush()
        raise SystemExit(code)

    def run(self, what: str = "run", *flags: str, **environment: str) -> str:
        """A subcommand to its end, and all that was said so far."""
        assert ended(self.start(what, *flags, **environment)) == 0, self.said()
        return self.said()

    def together(self, *commands: str) -> str:
        """Several at once, as on several machines, to their ends."""
        processes = [self.start(what) for what in commands]
        assert [ended(process) for process in processes] == [0] * len(commands), self.said()
        return self.said()

    def said(self) -> str:
        return (self.folder / "said.txt").read_text()

    def study(self) -> optuna.Study:
        sweep = load(self.folder / "drill.yaml", {})
        return optuna.load_study(study_name=sweep.name, storage=connect(sweep, self.storage))

    def complete(self) -> dict[int, tuple[float, ...]]:
        """Slot -> values of the complete trials; one that was counted twice fails."""
        done = [trial for trial in counted(self.study().trials) if trial.state == TrialState.COMPLETE]
        slots = [trial.user_attrs[SLOT] for trial in done]
        assert len(set(slots)) == len(slots), f"counted twice: {slots}"
        return {trial.user_attrs[SLOT]: tuple(round(value, 9) for value in trial.values) for trial in done}

    def children(self, slot: int) -> list[int]:
        """Pids of the fits that were started for a trial, in their order."""
        path = self.out / f"trial-{slot:04d}" / "selection" / "starts.txt"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    def records(self, slot: int) -> int:
        path = self.out / f"trial-{slot:04d}" / "selection" / "records.jsonl"
        return len(path.read_text().splitlines()) if path.exists() else 0


def ended(process: ForkProcess, seconds: float = 900) -> int | None:
    """The exit code; None where it does not end."""
    process.join(seconds)
    return process.exitcode


def wait(until: Callable[[], bool], seconds: float = 300) -> None:
    """Until something holds."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def kill(*pids: int) -> None:
    """kill -9, of what is still there."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
