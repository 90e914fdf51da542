"""A study's queue, and what comes back into it, in memory: nothing is fitted."""

import os
import time
from argparse import Namespace
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from mira_pl.__main__ import main
from mira_pl.commands.sweep import status
from mira_pl.sweep import command, presence
from mira_pl.sweep.definition import Sweep, load
from mira_pl.sweep.export import table
from mira_pl.sweep.presence import Presence, Sign, place, signs
from mira_pl.sweep.recovery import reap
from mira_pl.sweep.status import rows
from mira_pl.sweep.storage import RETRIES
from mira_pl.sweep.study import REASON, SLOT, best, connect, counted, create_or_join, join, latest, look, spent
from mira_pl.sweep.trial import Objective, Surplus
from mira_pl.sweep.worker import outcome, place_among

BASE = str(Path(__file__).parents[2] / "configs" / "emoji_darkness.yaml")
BETA, KEYS = "model.objective.beta", ["cat-s0", "dog-s0"]
GONE = 2**22 + 1  # above the largest pid of Linux


@pytest.fixture
def make(tmp_path):
    """A sweep of a file with these keys."""

    def made(trials: int | None = None, settings: dict | None = None, **content: object) -> Sweep:
        path = tmp_path / "s.yaml"
        path.write_text(yaml.safe_dump({"base": BASE, "space": {BETA: [0.1, 1.0, 5.0]}, "sampler": "grid"} | content))
        return load(path, settings or {}, trials)

    return made


def slots(study: optuna.Study, *states: TrialState) -> list[int]:
    return [trial.user_attrs[SLOT] for trial in counted(study.trials) if not states or trial.state in states]


def take(study: optuna.Study, sweep: Sweep, *values: float) -> optuna.Trial:
    """A worker takes the next trial, and ends it where there are values."""
    trial = study.ask()
    sweep.space.suggest(trial)
    if values:
        study.tell(trial, values)
    return trial


def sign(study: optuna.Study, name: str, trial: optuna.Trial, where: str | None = None, pid: int = GONE) -> None:
    """As a worker, of this place by default, that has just begun a trial."""
    held = {"seen": time.time(), "trial": trial.number, "pid": pid, "place": where or place()}
    study.set_user_attr(f"worker:{name}", held)
    trial.set_user_attr("worker", {"name": name, "trial": trial.number})


def test_the_whole_grid_waits_and_is_taken_once(make):
    sweep = make()
    study = create_or_join(sweep, InMemoryStorage(), KEYS)
    assert slots(study, TrialState.WAITING) == [0, 1, 2]
    assert [take(study, sweep, 1.0, 1.0, 1.0).params[BETA] for _ in range(3)] == [0.1, 1.0, 5.0]
    assert not slots(study, TrialState.WAITING)
    surplus = take(study, sweep)  # of a worker that came too late
    study.tell(surplus.number, state=TrialState.FAIL)
    assert len(study.trials) == 4 and slots(study) == [0, 1, 2]


def test_a_larger_budget_adds_trials_and_changes_none(make):
    storage = InMemoryStorage()
    wide = {"sampler": "random", "space": {BETA: {"low": 0.1, "high": 10, "log": True}}}
    study = create_or_join(make(2, **wide), storage, KEYS)
    first = [trial.system_attrs["fixed_params"] for trial in study.trials]
    create_or_join(make(5, **wide), storage, KEYS)
    again = [trial.system_attrs["fixed_params"] for trial in study.trials]
    assert slots(study) == [0, 1, 2, 3, 4] and again[:2] == first


def test_a_budget_below_the_queue_is_refused(make):
    """It would do nothing; the file's default of a grid or of twenty trials asks for nothing less than there is."""
    storage, wide = InMemoryStorage(), {"sampler": "random", "space": {BETA: {"low": 0.1, "high": 10}}}
    study = create_or_join(make(25, **wide), storage, KEYS)
    with pytest.raises(
        ValueError, match=r"budget\.trials is 24, but the queue of 's' holds 25 trials and only grows: give 25"
    ):
        create_or_join(make(24, **wide), storage, KEYS)
    with pytest.raises(ValueError, match=r"budget\.trials is 2, but"):
        create_or_join(make(budget={"trials": 2}, **wide), storage, KEYS)
    create_or_join(make(**wide), storage, KEYS)
    assert len(study.trials) == 25


def test_two_that_fill_the_queue_at_once_give_every_slot_one_trial(make):
    """Both see an empty queue; what the later one adds is no trial, and neither are its retries."""
    sweep, storage = make(), InMemoryStorage()
    study = create_or_join(sweep, storage, KEYS)
    for slot, point in enumerate(sweep.space.grid()):
        study.enqueue_trial(point, user_attrs={SLOT: slot})
    assert [trial.number for trial in counted(study.trials)] == [0, 1, 2]
    lost = take(study, sweep)
    assert reap(study, 1e-9) == [lost.number]
    assert slots(study, TrialState.WAITING) == [1, 2, 0] and [one.number for one in latest(study.trials)] == [6, 1, 2]
    assert dict(rows(study, sweep))["trials waiting"] == "3"


def test_what_was_queued_twice_is_not_done_twice(make, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "FIT", ("python", "-c", "raise SystemExit('it was fitted')"))
    sweep = make()
    study = create_or_join(sweep, InMemoryStorage(), KEYS)
    study.enqueue_trial({BETA: 0.1}, user_attrs={SLOT: 0})
    objective = Objective(sweep, tmp_path, {}, lambda trial: None)
    for _ in range(3):
        take(study, sweep, 1.0, 1.0, 1.0)
    with pytest.raises(Surplus, match="holds its slot twice"):
        objective(study.ask())
    with pytest.raises(Surplus, match="queue was empty"):
        objective(study.ask())
    assert objective.attempts == []  # of a worker that may take so many


def test_another_file_is_refused_with_the_difference(make):
    storage = InMemoryStorage()
    create_or_join(make(settings={"model.iterations": "3"}), storage, KEYS)
    with pytest.raises(ValueError, match=r"made from another sweep file .*beta\.0: 0\.1 -> 0\.2"):
        join(make(settings={"model.iterations": "3"}, space={BETA: [0.2, 1.0, 5.0]}), storage)
    with pytest.raises(ValueError, match=r"set\.model\.iterations: 3 -> 4"):
        create_or_join(make(settings={"model.iterations": "4"}), storage, KEYS)
    _, sweep = look(make(), storage)  # to look at it needs no --set
    assert sweep.settings == {"model.iterations": "3"}
    with pytest.raises(ValueError, match="no study 'other' in this storage"):
        join(make(name="other"), storage)


def test_a_lost_workers_trial_comes_back_and_keeps_its_slot(make):
    sweep = make()
    study = create_or_join(sweep, InMemoryStorage(), KEYS)
    lost, mine, new = (take(study, sweep) for _ in range(3))
    sign(study, "gone", lost)
    Presence(study, 60).touch(mine)  # this process, which lives; `new` has not signed yet
    assert reap(study, 300) == [lost.number]
    assert reap(study, 300) == []
    again = study.trials[-1]
    assert again.state == TrialState.WAITING and again.user_attrs[SLOT] == 0 and again.params == lost.params
    assert take(study, sweep).params == lost.params  # it has the lost worker's name, and is not taken for lost
    assert reap(study, 300) == []
    assert sorted(reap(study, 1e-9)) == [mine.number, new.number, again.number]
    assert slots(study, TrialState.WAITING) == [1, 2, 0]


def test_containers_of_one_name_and_pid_are_different_workers(make):
    """A process that is not found here may well be one of the other's namespace, on this kernel and under this name."""
    sweep = make()
    study = create_or_join(sweep, InMemoryStorage(), KEYS)
    first, second = Presence(study, 60), Presence(study, 60)
    assert (
        first.name != second.name
        and len({place_among(one.name, {first.name, second.name}) for one in (first, second)}) == 2
    )
    there, here = take(study, sweep), take(study, sweep)
    sign(study, "there", there, where=f"{place()}1")
    sign(study, "here", here)
    assert reap(study, 300) == [here.number]
    first.touch()
    second.touch()
    second.leave()
    assert signs(study.user_attrs)[first.name].alive(300, time.time())  # one that leaves does not speak for the other
    assert sorted(reap(study, 1e-9)) == [there.number]


def test_a_name_says_nothing_where_linux_is_not(monkeypatch):
    """Freshness alone counts: no pid is looked up."""
    monkeypatch.setattr(presence.Path, "readlink", lambda self: (_ for _ in ()).throw(FileNotFoundError(self)))
    assert place() is None and Sign(time.time(), GONE, None).alive(300, time.time())
    assert not Sign(time.time() - 301, os.getpid(), None).alive(300, time.time())


def test_a_trial_that_kills_its_workers_is_given_up_at_last(make):
    sweep = make(space={BETA: [0.1]})
    study = create_or_join(sweep, InMemoryStorage(), KEYS)
    for _ in range(RETRIES + 1):
        assert slots(study, TrialState.WAITING) == [0]
        take(study, sweep)
        reap(study, 1e-9)
    assert slots(study) == [0] * (RETRIES + 1) and not slots(study, TrialState.WAITING)


def test_a_trial_that_fell_between_two_workers_is_found(make):
    """Marked as lost by one that was lost itself before it could queue it; one with a reason has simply failed."""
    sweep = make()
    study = create_or_join(sweep, InMemoryStorage(), KEYS)
    dropped, failed = take(study, sweep), take(study, sweep)
    failed.set_user_attr(REASON, "exit code 2")
    for trial in (dropped, failed):
        study.tell(trial.number, state=TrialState.FAIL)
    assert reap(study, 300) == []  # whoever marked it may be about to queue it
    assert reap(study, 0) == [dropped.number]
    assert reap(study, 0) == []


def test_best_is_feasible_and_first_by_the_first_objective(make):
    sweep = make(objectives={"clip": "minimize", "reward": "maximize"}, constraints=["drift <= 1"])
    study = create_or_join(sweep, InMemoryStorage(), KEYS)
    for excess, values in ((-1, (2.0, 5.0)), (-1, (1.0, 1.0)), (1, (0.0, 9.0))):
        trial = take(study, sweep)
        trial.set_constraint("drift <= 1", excess)
        study.tell(trial, values)
    assert [trial.number for trial in best(study)] == [1, 0]
    assert [trial.user_attrs[SLOT] for trial in latest(study.trials)] == [0, 1, 2]


def test_nothing_is_best_where_nothing_is_feasible(make):
    sweep = make(objectives={"reward": "maximize"}, constraints=["drift <= 1"])
    study = create_or_join(sweep, InMemoryStorage(), KEYS)
    trial = take(study, sweep)
    trial.set_constraint("drift <= 1", 0.5)
    study.tell(trial, 3.0)
    assert best(study) == []


def test_hours_and_calls_are_counted(make):
    sweep = make(budget={"unet_calls": 50})
    study = create_or_join(sweep, InMemoryStorage(), KEYS)
    for calls in (20, 30):
        assert spent(study.trials).exceeds(sweep) is None
        trial = take(study, sweep)
        trial.set_user_attr("unet_calls", calls)
        study.tell(trial, (1.0, 1.0, 1.0))
    assert spent(study.trials).exceeds(sweep) == "budget.unet_calls of 50 is spent"
    assert ("stopped", "budget.unet_calls of 50 is spent") in rows(study, sweep)


def test_a_retry_counts_the_calls_of_the_attempt_before_once(make):
    """The folder is the same, so the calls of a retry are those of both."""
    sweep = make()
    study = create_or_join(sweep, InMemoryStorage(), KEYS)
    for state, calls in ((TrialState.FAIL, 100), (TrialState.COMPLETE, 130)):
        trial = optuna.trial.create_trial(
            state=state, values=[1.0] * 3 if state == TrialState.COMPLETE else None,
            user_attrs={SLOT: 7, "unet_calls": calls},
        )  # fmt: skip
        study.add_trial(trial)
    assert spent(study.trials).unet_calls == 130


def test_status_shows_reasons_as_they_are(make, tmp_path, capsys):
    """Brackets are no markup of the table."""
    sweep, url = make(), f"sqlite:///{tmp_path / 's.db'}"
    study = create_or_join(sweep, connect(sweep, url), KEYS)
    for reason in ("exit code 1: cannot open [/data/x/y]", "[enforce fail at alloc_cpu.cpp:117] no memory"):
        trial = take(study, sweep)
        trial.set_user_attr(REASON, reason)
        study.tell(trial, state=TrialState.FAIL)
    status(sweep, url, tmp_path, Namespace())
    said = capsys.readouterr().out
    assert "cannot open [/data/x/y]" in said and "[enforce fail at alloc_cpu.cpp:117] no memory" in said


def test_a_password_in_a_wrong_flag_is_not_said(capsys):
    assert main(["sweep", "status", "--config", "b.yaml", "--stroage", "postgresql://me:s3cret@db/x"]) == 2
    assert main(["sweep", "postgresql://me:s3cret@db/x", "--config", "b.yaml"]) == 2
    said = capsys.readouterr().err
    assert "s3cret" not in said and "--stroage" in said


def test_status_counts_slots_retries_and_workers(make):
    sweep = make()
    study = create_or_join(sweep, InMemoryStorage(), KEYS)
    take(study, sweep, 1.0, 2.0, 3.0)
    lost = take(study, sweep)
    sign(study, "gone", lost)
    alive = Presence(study, 60)
    alive.touch()
    reap(study, 300)
    found = dict(rows(study, sweep))
    assert found["trials complete"] == "1" and found["trials waiting"] == "2" and found["retries"] == "1"
    assert found["workers alive"] == f"1 ({alive.name})" and found["best: trial-0000"].startswith(
        "reward 1, drift 2, clip 3"
    )
    alive.leave()
    assert signs(study.user_attrs)[alive.name].seen == 0.0
    assert dict(rows(study, sweep))["minutes left"] == "unknown: no worker is alive"


def test_what_is_over_has_no_minutes_left(make):
    """A study that is done; and one whose budget is spent, once the trials that run are through."""
    sweep, whole = make(budget={"unet_calls": 50}), make()
    study = create_or_join(sweep, InMemoryStorage(), KEYS)
    Presence(study, 60).touch()
    trial, running = take(study, sweep), take(study, sweep)
    trial.set_user_attr("unet_calls", 50)
    study.tell(trial, (1.0, 1.0, 1.0))
    assert "stopped" in dict(rows(study, sweep)) and "minutes left" in dict(rows(study, sweep))
    study.tell(running, (1.0, 1.0, 1.0))
    found = dict(rows(study, sweep))
    assert found["trials waiting"] == "1" and "stopped" in found and "minutes left" not in found
    assert "minutes left" in dict(rows(study, whole))  # with more budget it goes on
    take(study, sweep, 1.0, 1.0, 1.0)
    assert "minutes left" not in dict(rows(study, whole))


def test_what_is_shown_leads_to_the_folder(make):
    """A retry has another number and writes where the first attempt did."""
    sweep = make(space={BETA: [0.1, 1.0]}, objectives={"reward": "maximize"})
    study = create_or_join(sweep, InMemoryStorage(), KEYS)
    take(study, sweep)
    failed = take(study, sweep)
    failed.set_user_attr(REASON, "exit code 2")
    study.tell(failed, state=TrialState.FAIL)
    reap(study, 1e-9)
    retry = take(study, sweep, 1.0)
    found = dict(rows(study, sweep))
    assert retry.number == 2 and {"best: trial-0000", "failed: trial-0001"} <= set(found)
    assert outcome(study.trials[2]).startswith("trial-0000: 1 for") and outcome(study.trials[1]).startswith(
        "trial-0001 fail"
    )
    frame = table(study, sweep)
    assert list(frame["trial"]) == ["trial-0000", "trial-0001"] and list(frame["number"]) == [2, 1]
