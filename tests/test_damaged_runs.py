"""A damaged run folder: one line that names the file, before anything is computed."""

from pathlib import Path

import pytest
import torch

from mira_pl.__main__ import main
from mira_pl.runs import RunFolder

CONFIG = {"model": {}, "data": {}}
PICTURE = torch.zeros(3, 8, 8)


def finished(folder: Path, *keys: str) -> RunFolder:
    """A run of jobs with a picture, a record and two rows of the trace each."""
    run = RunFolder(folder / "run")
    run.prepare(CONFIG)
    for key in keys:
        run.save_images(key, {}, PICTURE, PICTURE, [])
    records = [{"key": key, "prompt": key, "reward_start": 0.0, "reward": 0.5} for key in keys]
    run.add(records, [{"key": key, "iteration": k, "reward": 0.5} for key in keys for k in range(2)], keys)
    return run


@pytest.mark.parametrize(
    "line",
    [
        b'{"key": "a", "prom',
        b"[1, 2]",
        b"7",
        b"{}",
        b'{"key": ["a"], "prompt": "a", "reward_start": 0, "reward": 1}',
        b'{"key": "a", "prompt": "a", "reward_start": 0, "reward": "much"}',
        b"\xff",
    ],
)
def test_a_damaged_record_is_named_with_its_line(tmp_path: Path, line: bytes) -> None:
    run = finished(tmp_path, "a", "b")
    file = run.path / "records.jsonl"
    file.write_bytes(file.read_bytes() + line)
    with pytest.raises(ValueError, match=rf"line 3 of {file} is no record: restore the file, or delete that line"):
        run.prepare(CONFIG)
    run.prepare(CONFIG, overwrite=True)
    assert run.records() == []


@pytest.mark.parametrize(
    "content",
    [
        b"kay,iteration\na,0\n",
        b"key,iteration,unknown\na,0,1\n",
        b"key,iteration,reward\na,0\n",
        b"key,iteration,reward\na,0,1,2\n",
        b"key,iteration,reward\na,one,2\n",
        b"key,iteration,reward\na,,2\n",
        b'key,iteration,reward\n"a,0,2\n',
        b"key,iteration\n\xff,0\n",
    ],
)
def test_a_damaged_trace_is_named(tmp_path: Path, content: bytes) -> None:
    run = finished(tmp_path, "a")
    (run.path / "trace.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"{run.path / 'trace.csv'} is damaged \(.*\): restore it, or delete it"):
        run.prepare(CONFIG)
    (run.path / "trace.csv").unlink()
    run.prepare(CONFIG)


def test_a_trace_of_fewer_columns_is_fine(tmp_path: Path) -> None:
    run = finished(tmp_path, "a")
    (run.path / "trace.csv").write_text("key,iteration,reward\na,0,1.0\n")
    run.prepare(CONFIG)
    assert run.trace() == [{"key": "a", "iteration": "0", "reward": "1.0"}]


def test_jobs_that_are_not_asked_for_any_more_stay_at_the_end(tmp_path: Path) -> None:
    """The file of prompts has changed, its name has not."""
    run = finished(tmp_path, "a", "b")
    run.add([{"key": "c", "prompt": "c", "reward_start": 0.0, "reward": 0.5}], [{"key": "c", "iteration": 0}], ["c"])
    assert [record["key"] for record in run.records()] == ["c", "a", "b"]
    assert run.trace()[0]["key"] == "c"


@pytest.mark.parametrize("left", [None, 40, 0])
def test_a_lost_picture_leaves_a_gap_in_the_contact_sheet(tmp_path: Path, left: int | None) -> None:
    run = finished(tmp_path, "a", "b")
    whole = run.save_contact().read_bytes()
    path = run.image_path("a")
    path.write_bytes(path.read_bytes()[:left])
    if left is None:
        path.unlink()
    assert run.save_contact().read_bytes() != whole


def test_an_open_folder_is_closed_to_others(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with run.opened(CONFIG):
        (run.path / "mine.txt").touch()
        for overwrite in (False, True):
            with (
                pytest.raises(BlockingIOError, match=f"^another fit writes to {run.path}: "),
                run.opened(CONFIG, overwrite),
            ):
                pass
        assert run.config() == CONFIG
    with run.opened(CONFIG | {"model": {"lr": 1}}, overwrite=True):
        assert (run.path / "mine.txt").exists()


def test_a_kill_right_after_the_lock_stands_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    RunFolder(tmp_path).prepare(CONFIG)


@pytest.mark.parametrize("inside", ["", "deeper"])
def test_a_file_is_no_folder(tmp_path: Path, inside: str) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(NotADirectoryError, match=f"^{file} is a file: give a folder with --out$"):
        RunFolder(file / inside).prepare(CONFIG)
    assert file.read_text() == "mine"


def test_the_command_says_so_in_one_line(tmp_path: Path, capsys) -> None:
    run = finished(tmp_path, "a")
    (run.path / "records.jsonl").write_text("{")
    assert main(["show", str(run.path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mira_pl: line 1 of ") and error.count("\n") == 1
