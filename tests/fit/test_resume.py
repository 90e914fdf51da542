"""kill -9 at any moment, then the same command: the same bytes as one go."""

import os
import signal

import pytest
from forked import comparable, in_child, same_files

from mira_pl.fit.state import BatchState
from mira_pl.runs import RunFolder


@pytest.fixture
def reference(run_fit, tmp_path):
    return run_fit(tmp_path / "reference")


def killed_after(count: int, monkeypatch, target: type, name: str, by: int = signal.SIGKILL):
    """Patch a method so that the process gets a signal right after its `count`-th call."""
    original, calls = getattr(target, name), []

    def call(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        calls.append(1)
        if len(calls) == count:
            os.kill(os.getpid(), by)
        return result

    monkeypatch.setattr(target, name, call)


@pytest.mark.parametrize("tick", [1, 4, 9, *(pytest.param(tick, marks=pytest.mark.slow) for tick in (2, 3, 6, 8))])
def test_killed_after_a_tick(reference, run_fit, tmp_path, monkeypatch, tick):
    out = tmp_path / "killed"
    with monkeypatch.context() as patch:
        killed_after(tick, patch, BatchState, "save")
        assert in_child(lambda: run_fit(out)) == signal.SIGKILL
    run_fit(out)
    assert same_files(reference, out)
    assert comparable(RunFolder(out).records()) == comparable(RunFolder(reference).records())


def test_stopped_by_ctrl_c(reference, run_fit, tmp_path, monkeypatch, capfd):
    """One line that says how to go on, the exit code of shells for it, and the same bytes afterwards."""
    out = tmp_path / "stopped"

    def stopped() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        try:
            run_fit(out)
        except SystemExit as stop:
            os._exit(stop.code)

    with monkeypatch.context() as patch:
        killed_after(4, patch, BatchState, "save", signal.SIGINT)
        assert os.waitstatus_to_exitcode(in_child(stopped)) == 130
    assert f"stopped; the same command goes on where {out} stands" in capfd.readouterr().err
    run_fit(out)
    assert same_files(reference, out)


@pytest.mark.slow
def test_killed_with_momentum(run_fit, tmp_path, monkeypatch):
    """ReNO's update has a memory of its own."""
    flags = ["--model.objective", "ReNO", "--model.optimizer", "sgd", "--model.lr", "0.5"]
    whole, out = run_fit(tmp_path / "whole", *flags), tmp_path / "killed"
    with monkeypatch.context() as patch:
        killed_after(5, patch, BatchState, "save")
        assert in_child(lambda: run_fit(out, *flags)) == signal.SIGKILL
    run_fit(out, *flags)
    assert same_files(whole, out)


@pytest.mark.parametrize(("name", "count"), [("save_images", 1), ("save_noise", 2), ("add", 1), ("save_contact", 2)])
def test_killed_while_results_are_written(reference, run_fit, tmp_path, monkeypatch, name, count):
    out = tmp_path / "killed"
    with monkeypatch.context() as patch:
        killed_after(count, patch, RunFolder, name)
        assert in_child(lambda: run_fit(out)) == signal.SIGKILL
    run_fit(out)
    assert same_files(reference, out)
    assert comparable(RunFolder(out).records()) == comparable(RunFolder(reference).records())
    traces = [
        [(r["key"], r["iteration"], r["reward"]) for r in RunFolder(folder).trace()] for folder in (reference, out)
    ]
    assert traces[0] == traces[1]


def test_saving_less_often_changes_nothing(reference, run_fit, tmp_path, monkeypatch):
    out = tmp_path / "killed"
    with monkeypatch.context() as patch:
        killed_after(1, patch, BatchState, "save")
        assert in_child(lambda: run_fit(out, "--model.save_every", "2")) == signal.SIGKILL
    run_fit(out, "--model.save_every", "2")
    assert same_files(reference, out)


def test_a_finished_run_is_left_as_it_is(reference, run_fit):
    before = (reference / "records.jsonl").read_bytes()
    run_fit(reference)
    assert (reference / "records.jsonl").read_bytes() == before


def count_saves(monkeypatch) -> list[int]:
    original, calls = BatchState.save, []

    def save(self, *args):
        original(self, *args)
        calls.append(1)

    monkeypatch.setattr(BatchState, "save", save)
    return calls


@pytest.mark.parametrize("stood", ["another", pytest.param("the same", marks=pytest.mark.slow)])
def test_overwriting_is_resumed_by_the_same_command(run_fit, tmp_path, monkeypatch, capsys, stood):
    """A finished run is done again; a killed one goes on where it stood: nine saves, of which four were made."""
    flags = ["--model.lr", "0.5"]
    whole, out = run_fit(tmp_path / "whole", *flags), tmp_path / "killed"
    run_fit(out, *(flags if stood == "the same" else []))
    capsys.readouterr()
    with monkeypatch.context() as patch:
        killed_after(4, patch, BatchState, "save")
        assert in_child(lambda: run_fit(out, *flags, "--overwrite")) == signal.SIGKILL
    assert 0 < len(RunFolder(out).records()) < 5
    calls = count_saves(monkeypatch)
    run_fit(out, *flags, "--overwrite")
    assert len(calls) == 9 - 4
    assert f"mira_pl: {out} is unfinished and goes on; to begin anew, delete it\n" in capsys.readouterr().err
    assert same_files(whole, out)
    assert comparable(RunFolder(out).records()) == comparable(RunFolder(whole).records())


def test_killed_while_the_old_run_is_deleted(reference, run_fit, tmp_path, monkeypatch):
    """Also where files of others, such as W&B's, keep the folder from being empty."""
    out = run_fit(tmp_path / "killed", "--model.lr", "0.5")
    (out / "wandb").mkdir()
    with monkeypatch.context() as patch:
        killed_after(1, patch, RunFolder, "clear")
        assert in_child(lambda: run_fit(out, "--overwrite")) == signal.SIGKILL
    run_fit(out, "--overwrite")
    assert same_files(reference, out)


def test_less_memory_in_the_same_folder(reference, run_fit, tmp_path, monkeypatch):
    """What the line about memory advises: the engine may change in the middle of a run, and no byte with it."""
    out = tmp_path / "killed"
    with monkeypatch.context() as patch:
        killed_after(4, patch, BatchState, "save")
        assert in_child(lambda: run_fit(out, "--model.engine", "full")) == signal.SIGKILL
    calls = count_saves(monkeypatch)
    run_fit(out, "--model.engine", "checkpoint", "--model.store_steps", "0")
    assert len(calls) == 9 - 4
    assert same_files(reference, out)
    assert comparable(RunFolder(out).records()) == comparable(RunFolder(reference).records())
