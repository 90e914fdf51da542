"""One process, two processes, more processes than batches, and torchrun: the same bytes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import comparable, same_files

from mira_pl.fit.data import PromptData
from mira_pl.runs import RunFolder

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "PYTHONWARNINGS": "ignore"}


def command(arguments: list[str], out: Path, *flags: str, launcher: list[str] | None = None) -> None:
    start = launcher or [sys.executable]
    subprocess.run(
        [*start, "-m", "mira_pl", "fit", *arguments, "--out", str(out), *flags],
        env=os.environ | ENVIRONMENT, check=True, capture_output=True, timeout=300,
    )  # fmt: skip


@pytest.fixture
def reference(run_fit, tmp_path):
    """Three batches in one process."""
    return run_fit(tmp_path / "one")


@pytest.mark.slow
def test_two_processes(reference, arguments, tmp_path):
    """Rank 1 has nothing to do in the second round."""
    out = tmp_path / "two"
    command(arguments, out, "--trainer.devices", "2")
    assert same_files(reference, out)
    assert comparable(RunFolder(out).records()) == comparable(RunFolder(reference).records())


@pytest.mark.slow
def test_two_fits_into_one_folder(reference, arguments, tmp_path):
    """The second is sent away while the first one lives, even with --overwrite, and a kill lets go of the folder."""
    out = tmp_path / "shared"
    start = [sys.executable, "-m", "mira_pl", "fit", *arguments, "--out", str(out)]
    first = subprocess.Popen([*start, "--model.iterations", "100000"], env=os.environ | ENVIRONMENT)
    try:
        wait_for(lambda: (out / "state").exists())
        second = [*start, "--model.iterations", "3", "--overwrite", "true"]
        refused = subprocess.run(second, env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=300)
        assert refused.returncode == 2
        assert refused.stderr == (
            f"mira_pl: another fit writes to {out}: wait for its end, or give another folder with --out\n"
        )
        assert first.poll() is None and RunFolder(out).config()["model"]["iterations"] == 100000
    finally:
        first.kill()
        first.wait()
    command(arguments, out, "--overwrite", "true")
    assert same_files(reference, out)


def wait_for(happened: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_torchrun_with_more_processes_than_batches(reference, arguments, tmp_path):
    out = tmp_path / "four"
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "4",
        "--no-python",
        sys.executable,
    ]
    command(arguments, out, "--trainer.devices", "4", launcher=launcher)
    assert same_files(reference, out)


DYING = """
import os, signal, sys
from mira_pl.__main__ import main
from mira_pl.fit.state import BatchState

save, calls = BatchState.save, []

def save_and_die(self, *args):
    save(self, *args)
    calls.append(1)
    if len(calls) == {count} and os.environ.get("LOCAL_RANK", "0") == "0":
        os.killpg(0, signal.SIGKILL)

BatchState.save = save_and_die
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [("2", "1"), ("1", "2")])
@pytest.mark.parametrize("count", [2, 4])
def test_killed_and_resumed_with_another_number(reference, arguments, tmp_path, before, after, count):
    """kill -9 of all processes at once; of two, each leaves a batch behind, in the first round or in the second."""
    out, script = tmp_path / "killed", tmp_path / "dying.py"
    script.write_text(DYING.format(count=count))
    flags = [*arguments, "--out", str(out)]
    start = [sys.executable, str(script), "fit", *flags, "--trainer.devices", before]
    killed = subprocess.run(
        start, env=os.environ | ENVIRONMENT, capture_output=True, timeout=300, start_new_session=True
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(list((out / "state").glob("*.pt"))) == (2 if (before, count) == ("2", 2) else 1)
    command(arguments, out, "--trainer.devices", after)
    assert same_files(reference, out)
    assert comparable(RunFolder(out).records()) == comparable(RunFolder(reference).records())
    assert timeless(out) == timeless(reference)
    assert not list((out / "state").iterdir())


def timeless(folder: Path) -> list[dict[str, str]]:
    """The trace without its seconds."""
    return [row | {"seconds": ""} for row in RunFolder(folder).trace()]


THREADS = """
import os, sys, torch
from mira_pl.__main__ import main
from mira_pl.fit.solver import Solver

finished = Solver.on_train_epoch_end

def tell(self):
    finished(self)
    os.write(1, f"threads {torch.get_num_threads()}\\n".encode())  # whole, between those of the other process

Solver.on_train_epoch_end = tell
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("told", [None, "1"])
def test_processes_share_the_cores(arguments, tmp_path, told):
    """Each takes its part of the threads; OMP_NUM_THREADS decides where it is set."""
    script = tmp_path / "telling.py"
    script.write_text(THREADS)
    environment = {name: value for name, value in (os.environ | ENVIRONMENT).items() if name != "OMP_NUM_THREADS"}
    said = subprocess.run(
        [sys.executable, str(script), "fit", *arguments, "--trainer.devices", "2", "--model.iterations", "1"],
        env=environment | ({} if told is None else {"OMP_NUM_THREADS": told}),
        check=True, capture_output=True, text=True, timeout=300,
    ).stdout  # fmt: skip
    cores = len(os.sched_getaffinity(0))
    wanted = max(1, cores // 2) if told is None else int(told)
    assert [line for line in said.splitlines() if line.startswith("threads")] == [f"threads {wanted}"] * 4


@pytest.mark.parametrize(("batches", "world"), [(5, 2), (5, 4), (1, 3), (4, 2)])
def test_every_batch_is_solved_once(batches, world):
    data = PromptData([f"prompt {n}" for n in range(batches)], batch_size=1)
    seen = [data.at(round_, rank, world) for round_ in range(data.rounds(world)) for rank in range(world)]
    assert sorted(index for index in seen if index is not None) == list(range(batches))


def test_finished_batches_are_dropped_whole():
    data = PromptData(["a", "b", "c", "d"], batch_size=2)
    keys = data.order()
    data.drop_finished(keys[:3])
    assert data.left == [1]
    data.drop_finished(keys)
    assert data.rounds(2) == 0 and data.at(0, 0, 2) is None
