"""Workers, children and databases are killed: no trial is lost, none counted twice, retried ones resume."""

import re
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from drill import PROMPTS, Drill, ended, kill, wait
from optuna.trial import TrialState
from postgres import PASSWORD, Server, binary
from quick_fit import record

from mira_pl.sweep.measures import measures
from mira_pl.sweep.study import JOBS, REASON, SLOT

pytestmark = pytest.mark.slow
SLOW = {"QUICK_PAUSE": "1.5"}


@pytest.fixture(scope="session")
def server():
    """A PostgreSQL that is stopped after."""
    if binary("initdb") is None:
        pytest.skip("no PostgreSQL server here: install Debian's package postgresql, see docs/sweeps.md")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others, and it refuses to run as root
        Path(folder).chmod(0o711)
        found = Server.create(Path(folder, "server"))
        found.start()
        yield found
        found.stop()


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def drill(request, tmp_path):
    """On every storage."""
    place = {"sqlite": f"sqlite:///{tmp_path / 's.db'}", "journal": f"journal:{tmp_path / 's.journal'}"}
    url = place[request.param] if request.param in place else request.getfixturevalue("server").url
    made = Drill(tmp_path, url)
    made.write(name=f"drill-{tmp_path.name}")
    return made


def expected() -> dict[int, tuple[float, ...]]:
    """Objectives of the stand-in's trials."""
    found = {}
    for slot, beta in enumerate((0.0, 0.5, 1.0, 2.0)):
        jobs = [measures(record(prompt, index, beta)) for index, prompt in enumerate(PROMPTS)]
        found[slot] = tuple(round(sum(job[name] for job in jobs) / 3, 9) for name in ("reward", "drift", "clip"))
    return found


def test_a_killed_worker_a_killed_child_and_both(drill):
    """First a child, then a worker, then worker and child together; a second worker does the rest."""
    first = drill.start("run", **SLOW)
    wait(lambda: drill.records(0) == 1)
    kill(drill.children(0)[-1])
    wait(lambda: drill.records(1) == 1)
    assert len(drill.children(0)) == 2  # started again, in the same trial
    kill(first.pid)
    assert ended(first) == -9
    second = drill.start("worker", **SLOW)
    wait(lambda: drill.records(2) == 1)
    kill(second.pid, drill.children(2)[-1])
    assert ended(second) == -9
    drill.together("run", "worker")
    assert drill.complete() == expected()
    states = [trial.state for trial in drill.study().trials]
    assert TrialState.RUNNING not in states and TrialState.WAITING not in states
    assert states.count(TrialState.FAIL) == 2  # the two lost workers', which were done again
    retried = [trial for trial in drill.study().trials if "failed_trial" in trial.system_attrs]
    assert {trial.user_attrs[SLOT] for trial in retried} == {1, 2}
    assert len(drill.children(2)) == 2 and PASSWORD not in everything(drill)


def test_two_workers_do_what_one_does(drill):
    drill.together("run", "run")
    assert drill.complete() == expected()
    assert [len(drill.children(slot)) for slot in range(4)] == [1, 1, 1, 1]
    said = drill.run("status")
    assert (
        re.search("trials complete +│ 4", said)
        and re.search("retries +│ 0", said)
        and PASSWORD not in everything(drill)
    )


@pytest.mark.parametrize("drill", ["postgresql"], indirect=True)
def test_the_database_dies_and_comes_back(drill, server):
    workers = [drill.start("run", **SLOW), drill.start("run", **SLOW)]
    wait(lambda: drill.records(0) == 1)
    server.kill()
    time.sleep(6)  # longer than a trial's rest: it is done while there is no one to tell
    server.start()
    assert [ended(worker) for worker in workers] == [0, 0], drill.said()
    assert drill.complete() == expected()
    assert all(drill.records(slot) == 3 for slot in range(4))


@pytest.mark.parametrize("drill", ["sqlite"], indirect=True)
def test_trials_that_fail_say_why_and_the_others_go_on(drill):
    """One that raises, one that a signal kills whenever it starts, one of NaN."""
    drill.write(space={"model.objective.beta": [13.0, 9.0, 7.0, 2.0]})
    drill.run()
    trials = drill.study().trials
    reasons = [trial.user_attrs.get(REASON) for trial in trials]
    assert reasons[0] == "exit code 2: thirteen is no beta"
    assert "killed by signal 9" in reasons[1] and "3 times" in reasons[1]
    assert reasons[2].startswith("3 failed, the first a-white-cat-") and "reward not finite" in reasons[2]
    assert [trial.state for trial in trials] == [TrialState.FAIL] * 3 + [TrialState.COMPLETE]
    assert trials[3].user_attrs[JOBS].keys() == {record(prompt, 0, 0.0)["key"] for prompt in PROMPTS}


@pytest.mark.parametrize("drill", ["sqlite"], indirect=True)
def test_a_full_disk_fails_the_trial_that_writes_there(drill):
    """The real fit; the folder of the second trial is a small disk of its own."""
    drill.fit = None
    drill.write(space={"model.objective.beta": [0.0, 0.5, 1.0]})
    folder = drill.out / "trial-0001"
    folder.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        drill.run()
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert states(drill) == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert "No space left on device" in drill.study().trials[1].user_attrs[REASON]


@pytest.mark.parametrize("drill", ["sqlite"], indirect=True)
def test_a_trial_without_memory_fails_and_says_what_to_lower(drill):
    """The real fit, which gets no more address space while it samples."""
    drill.fit = "starved_fit.py"
    drill.write(space={"model.objective.beta": [0.0, 0.5, 1.0]})
    drill.run("run", "--set", "model.backbone.steps=20", "--set", "model.store_steps=20", "--set", "data.batch_size=3")
    assert states(drill) == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert drill.study().trials[1].user_attrs[REASON].startswith("exit code 2: out of memory: add --model.engine")


@pytest.mark.parametrize("drill", ["sqlite"], indirect=True)
def test_ctrl_c_takes_the_child_along_and_gives_the_trial_back(drill):
    worker = drill.start("run", **SLOW)
    wait(lambda: drill.records(0) == 1)
    worker.terminate()
    assert ended(worker) == 130
    assert not Path(f"/proc/{drill.children(0)[-1]}").exists()
    assert [trial.state for trial in drill.study().trials].count(TrialState.WAITING) == 4
    drill.run()
    assert drill.complete() == expected()


@pytest.mark.parametrize("drill", ["journal"], indirect=True)
def test_reap_gives_back_what_a_killed_worker_held(drill):
    worker = drill.start("run", **SLOW)
    wait(lambda: drill.records(0) == 1)
    kill(worker.pid, drill.children(0)[-1])
    ended(worker)
    assert "queued again: trial-0000" in drill.run("reap")
    assert "queued again: nothing" in drill.run("reap")
    assert [trial.state for trial in drill.study().trials].count(TrialState.WAITING) == 4


@pytest.mark.parametrize("drill", ["sqlite"], indirect=True)
def test_another_sweep_file_is_refused_and_more_budget_is_not(drill):
    drill.run("run", "--budget.trials", "2")
    assert set(drill.complete()) == {0, 1}
    drill.run("run", "--budget.trials", "3")
    assert set(drill.complete()) == {0, 1, 2}
    drill.write(name=f"drill-{drill.folder.name}", space={"model.objective.beta": [0.0, 0.7]})
    assert ended(drill.start("worker")) == 2
    assert "made from another sweep file" in drill.said() and "beta.1: 0.5 -> 0.7" in drill.said()


def states(drill: Drill) -> list[TrialState]:
    return [trial.state for trial in drill.study().trials]


def everything(drill: Drill) -> str:
    """All that was written, but for the storage itself."""
    files = [path for path in drill.folder.rglob("*") if path.is_file() and path.name not in ("s.db", "s.journal")]
    return drill.said() + "".join(path.read_bytes().decode("utf-8", "replace") for path in files)
