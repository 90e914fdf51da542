"""A run folder survives kills and full disks, and gives back what was put in."""

import errno
import itertools
import math
import multiprocessing
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mira_pl.prompts import job_key
from mira_pl.runs import RunFolder, config_hash, to_picture, write_atomic

CONFIG = {"model": {"lr": 0.01, "objective": {"beta": 0.5}}, "data": {"seeds": [0, 1]}, "trainer": {"devices": 1}}
TRICKY = 'a "cat"\n<b>\u2028 猫 🐈 \x85\x00 \ud800'


def record(key: str, value: float = 0.5, **more: Any) -> dict[str, Any]:
    return {"key": key, "prompt": f"a {key}", "reward_start": 0.0, "reward": value} | more


def row(key: str, iteration: int, value: float = 0.5) -> dict[str, Any]:
    return {"key": key, "iteration": iteration, "reward": value}


def picture(value: float = 0.0, side: int = 8) -> torch.Tensor:
    return torch.full((3, side, side), value)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.prepare(CONFIG)
    return folder


def filled(run: RunFolder, *keys: str) -> RunFolder:
    """With images, noise, a batch in progress and records of the given jobs."""
    for key in keys:
        run.save_images(key, {"prompt": key}, picture(-1), picture(1), [picture(0)])
        run.save_noise(key, torch.ones(2, 1), torch.zeros(2, 1))
    run.state_path(0).parent.mkdir()
    run.state_path(0).write_bytes(b"state")
    run.add([record(key) for key in keys], [row(key, 0) for key in keys], keys)
    run.save_contact()
    run.page_path.write_text("page")
    return run


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# Records


def test_records_and_traces_come_back(run: RunFolder) -> None:
    run.add([record("a", 0.1), record("b", 0.2)], [row("a", 0, 0.25), row("a", 1), row("b", 0)], ["a", "b"])
    assert run.records() == [record("a", 0.1), record("b", 0.2)]
    assert [(r["key"], r["iteration"]) for r in run.trace()] == [("a", "0"), ("a", "1"), ("b", "0")]
    assert run.trace()[0]["reward"] == "0.25"
    assert run.trace()[0]["clip"] == ""


def test_a_new_run_has_neither(run: RunFolder) -> None:
    assert run.records() == []
    assert run.trace() == []


def test_add_replaces_a_job_and_keeps_the_order_of_the_jobs(run: RunFolder) -> None:
    order = ["c", "a", "b"]
    run.add([record("b", 1.0), record("a", 2.0)], [row("b", 1), row("b", 0), row("a", 0)], order)
    run.add([record("b", 3.0), record("c", 4.0)], [row("c", 10), row("c", 9), row("b", 0, 9.0)], order)
    assert [(r["key"], r["reward"]) for r in run.records()] == [("c", 4.0), ("a", 2.0), ("b", 3.0)]
    assert [(r["key"], r["iteration"]) for r in run.trace()] == [("c", "9"), ("c", "10"), ("a", "0"), ("b", "0")]
    assert run.trace()[-1]["reward"] == "9.0"


def test_any_prompt_survives_the_file(run: RunFolder) -> None:
    run.add([record("a", prompt=TRICKY), record("b", prompt="x" * 10_240)], [], ["a", "b"])
    assert [r["prompt"] for r in run.records()] == [TRICKY, "x" * 10_240]


def test_nan_and_infinity_become_null(run: RunFolder) -> None:
    run.add([record("a", math.nan, drift=math.inf, clip=-math.inf, seconds=1.5)], [], ["a"])
    assert run.records() == [record("a", None, drift=None, clip=None, seconds=1.5)]  # type: ignore[arg-type]
    assert "NaN" not in (run.path / "records.jsonl").read_text()


# Configuration


def test_the_hash_looks_at_what_decides_the_results() -> None:
    elsewhere = CONFIG | {"trainer": {"devices": 8}, "out": "/other", "wandb": {"mode": "online"}}
    assert config_hash(elsewhere) == config_hash(CONFIG)
    assert config_hash(dict(reversed(CONFIG.items()))) == config_hash(CONFIG)
    assert config_hash(CONFIG | {"model": {"lr": 0.02}}) != config_hash(CONFIG)
    assert config_hash(CONFIG | {"data": {"seeds": [0]}}) != config_hash(CONFIG)
    assert len(config_hash({})) == 12


@pytest.mark.parametrize("content", [b"model: [1", b"", b"just text", b"model: \xff"])
def test_a_broken_configuration_is_named(run: RunFolder, content: bytes) -> None:
    (run.path / "config.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.yaml .*take another folder with --out"):
        run.prepare({"a": 1})


def test_the_same_configuration_goes_on(run: RunFolder) -> None:
    run.add([record("a")], [], ["a"])
    run.prepare(CONFIG | {"trainer": {"devices": 2}})
    assert run.config()["trainer"] == {"devices": 2}
    assert len(run.records()) == 1


def test_another_configuration_is_refused(run: RunFolder) -> None:
    other = CONFIG | {"model": {"lr": 1.0}}
    with pytest.raises(FileExistsError, match=rf"{config_hash(CONFIG)}, this one is {config_hash(other)}") as caught:
        run.prepare(other)
    assert len(str(caught.value).splitlines()) == 1
    assert run.config() == CONFIG


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "holiday.png").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="is not empty and is no run"):
        RunFolder(tmp_path).prepare(CONFIG, overwrite=overwrite)
    assert files(tmp_path) == {"images/holiday.png"}


def test_a_kill_before_the_first_configuration_stands_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".config.yaml.tmp").write_bytes(b"half of")
    RunFolder(tmp_path).prepare(CONFIG)
    assert files(tmp_path) == {"config.yaml"}


def test_overwrite_deletes_what_a_run_wrote_and_nothing_else(run: RunFolder) -> None:
    filled(run, "a", "b")
    for mine in ("notes.txt", "images/drawing.jpg", "state/todo.txt", "wandb/offline-run-1/log"):
        (run.path / mine).parent.mkdir(exist_ok=True, parents=True)
        (run.path / mine).write_text("mine")
    (run.path / "images" / ".a.png.tmp").write_bytes(b"left by a kill")
    run.prepare(CONFIG | {"model": {"lr": 1.0}}, overwrite=True)
    assert files(run.path) == {
        "config.yaml",
        "notes.txt",
        "images/drawing.jpg",
        "state/todo.txt",
        "wandb/offline-run-1/log",
    }
    assert not (run.path / "noise").exists()
    assert run.config()["model"] == {"lr": 1.0}


# Pictures and noise


def test_images_come_back_with_their_text(run: RunFolder) -> None:
    image = torch.arange(3 * 16 * 16).remainder(256).view(3, 16, 16) / 127.5 - 1
    run.save_images("a", {"prompt": 'ein "猫" 🐈\n' + "x" * 10_240, "seed": "-1"}, picture(side=16), image, [])
    with Image.open(run.image_path("a")) as held:
        assert held.text == {"prompt": 'ein "猫" 🐈\n' + "x" * 10_240, "seed": "-1"}  # type: ignore[attr-defined]
        pixels = torch.from_numpy(np.array(held)).permute(2, 0, 1)
    assert torch.equal(pixels.long(), torch.arange(3 * 16 * 16).remainder(256).view(3, 16, 16))
    assert not run.image_path("a", "film").exists()


def test_text_that_is_no_unicode_is_replaced(run: RunFolder) -> None:
    run.save_images("a", {"prompt": "a \ud800 cat"}, picture(), picture(), [])
    with Image.open(run.image_path("a", "base")) as held:
        assert held.text == {"prompt": "a ? cat"}  # type: ignore[attr-defined]


def test_a_filmstrip_goes_from_start_to_result(run: RunFolder) -> None:
    run.save_images("a", {}, picture(-1), picture(1), [picture(0), picture(0.5)])
    with Image.open(run.image_path("a", "film")) as film:
        assert film.size == (4 * 8, 8)
        assert [film.getpixel((8 * k + 4, 4)) for k in range(4)] == [(v, v, v) for v in (0, 128, 191, 255)]


def test_a_picture_is_clamped_and_rounded() -> None:
    values = torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0])
    assert to_picture(values.expand(3, 1, 5)).tobytes() == bytes(v for v in (0, 0, 128, 255, 255) for _ in range(3))


def test_noise_comes_back_to_the_bit(run: RunFolder) -> None:
    noise = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    run.save_noise("a", noise.transpose(2, 3), 2 * noise)
    held = load_file(run.path / "noise" / "a.safetensors")
    assert torch.equal(held["noise"], noise.transpose(2, 3))
    assert torch.equal(held["start"], 2 * noise)


@pytest.mark.parametrize(("jobs", "columns", "rows"), [(1, 1, 1), (5, 3, 2), (45, 6, 8)])
def test_the_contact_sheet_has_a_place_for_every_job(run: RunFolder, jobs: int, columns: int, rows: int) -> None:
    keys = [job_key("cat", seed) for seed in range(jobs)]
    for key in keys:
        run.save_images(key, {}, picture(-1), picture(1), [])
    run.add([record(key, prompt=TRICKY) for key in keys], [], keys)
    with Image.open(run.save_contact()) as sheet:
        assert sheet.size == (columns * (2 * 128 + 8), rows * (128 + 18))
        assert sheet.getpixel((64, 64)) == (0, 0, 0)
        assert sheet.getpixel((128 + 2 + 64, 64)) == (255, 255, 255)


def test_a_job_without_a_reward_is_on_the_contact_sheet(run: RunFolder) -> None:
    run.save_images("a", {}, picture(-1), picture(1), [])
    run.add([record("a", math.nan, reward_start=math.nan)], [], ["a"])
    assert run.save_contact().exists()


# Atomic writes


def test_a_write_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for content in (b"old", b"", b"new"):
        write_atomic(tmp_path / "deep" / "file", content)
        assert (tmp_path / "deep" / "file").read_bytes() == content
    assert files(tmp_path) == {"deep/file"}


@pytest.fixture(params=["limit", "disk"])
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[int]:
    """`tmp_path` takes 64 KiB at most: a small disk, or without the right to mount one, files limited in size."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if request.param == "disk" and os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0:
        yield errno.ENOSPC
        subprocess.run(["umount", str(tmp_path)], check=True)
    else:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))
        yield errno.EFBIG
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_old_file_and_one_line(tmp_path: Path, small_disk: int) -> None:
    run = RunFolder(tmp_path)
    run.add([record("a")], [], ["a"])
    with pytest.raises(OSError, match="what was written before is intact") as caught:
        run.add([record("b", prompt="x" * 200_000)], [], ["a", "b"])
    assert caught.value.errno == small_disk
    assert str(tmp_path / "records.jsonl") in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert run.records() == [record("a")]
    assert files(tmp_path) == {"records.jsonl", "trace.csv"}


def write_for_ever(run: RunFolder, start: int, begun: Event) -> None:
    """Rewrites three jobs again and again, with a number that rises."""
    keys = ["a", "b", "c"]
    for i in itertools.count(start):
        for key in keys:
            run.save_images(key, {"prompt": key}, picture(), picture(), [])
        run.add([record(key, i) for key in keys], [row(key, k, i) for key in keys for k in range(50)], keys)
        run.save_contact()
        if i == start + 2:
            begun.set()


def test_kill_9_in_the_middle_of_writing_leaves_readable_files(run: RunFolder) -> None:
    fork = multiprocessing.get_context("fork")
    for start, seconds in ((0, 0.05), (1000, 0.111), (2000, 0.173), (3000, 0.237)):
        begun = fork.Event()
        writer = fork.Process(target=write_for_ever, args=(run, start, begun))
        writer.start()
        assert begun.wait(timeout=120)
        time.sleep(seconds)
        writer.kill()
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        rewards = {r["reward"] for r in run.records()}
        assert [r["key"] for r in run.records()] == ["a", "b", "c"]
        assert len(rewards) == 1 and min(rewards) >= start
        assert len(run.trace()) == 150
        assert {int(r["reward"]) for r in run.trace()} <= {min(rewards), min(rewards) + 1}  # the trace goes first
        assert run.config() == CONFIG
        for path in (run.path / "contact.png", *(run.image_path(key) for key in "abc")):
            with Image.open(path) as image:
                image.load()
