"""`data.batch_size: auto`: measured once, settled before the first byte, kept by the run."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml

from mira_pl import align
from mira_pl.__main__ import main
from mira_pl.backbones import StableDiffusion
from mira_pl.fit import NoiseAlignment
from mira_pl.fit.batch import fitting, memory_file
from mira_pl.memory import SHARE, affordable_jobs, picture_bytes, step_bytes
from mira_pl.noise import draw
from mira_pl.objectives import MIRA, MIRADPO
from mira_pl.problem import Problem
from mira_pl.rewards import Brightness
from mira_pl.runs import RunFolder
from mira_pl.types import Job

CPU = torch.device("cpu")
AUTO = ("--data.batch_size", "auto")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "mira_pl" / "batch_sizes.json"


@pytest.fixture
def free(tiny_sd: Path, jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Pretends that there is memory for so many jobs of the tiny model, without stored steps."""
    backbone = StableDiffusion(str(tiny_sd), steps=3)
    one, noise = Problem.of(backbone, Brightness(), jobs[:1]), draw(jobs[:1], backbone.noise_shape)
    needed = step_bytes(backbone, one.condition, noise) + picture_bytes(one, noise)

    def pretend(count: float) -> None:
        monkeypatch.setattr("mira_pl.memory.free_bytes", lambda device: int(count * needed / SHARE))

    return pretend


def batches(folder: Path) -> int:
    """The size that stands in the configuration of a run."""
    return yaml.safe_load((folder / "config.yaml").read_text())["data"]["batch_size"]


def test_a_job_takes_a_step_a_picture_and_what_is_stored(tiny_sd: Path, jobs: list[Job], free: Callable) -> None:
    backbone = StableDiffusion(str(tiny_sd), steps=3)
    one, noise = Problem.of(backbone, Brightness(), jobs[:1]), draw(jobs[:1], backbone.noise_shape)
    free(7.5)
    assert affordable_jobs(one, noise, 0, 1) == 7
    assert affordable_jobs(one, noise, 0, 2) == 3
    assert affordable_jobs(one, noise, 2, 1) < 4
    free(0.1)
    assert affordable_jobs(one, noise, 0, 1) == 1


def test_a_picture_keeps_what_autograd_keeps(tiny_sd: Path, jobs: list[Job]) -> None:
    """More where the decoder's blocks are not computed again."""
    found = []
    for spared in (True, False):
        backbone = StableDiffusion(str(tiny_sd), steps=3, checkpoint_vae=spared)
        found.append(picture_bytes(Problem.of(backbone, Brightness(), jobs[:1]), draw(jobs[:1], backbone.noise_shape)))
    assert 0 < found[0] < found[1]


@pytest.mark.parametrize("objective", [MIRA(), MIRADPO()], ids=["one noise", "two noises"])
def test_every_noise_of_a_job_counts(objective: MIRA | MIRADPO, tiny_sd: Path, jobs: list[Job], free: Callable) -> None:
    free(8.5)
    module = NoiseAlignment(StableDiffusion(str(tiny_sd), steps=3), Brightness(), objective)
    assert fitting(module, jobs, CPU, 1) == 8 // objective.candidates
    assert module.spent_since_last().unet == 0  # measuring costs no job anything


def test_half_as_many_after_running_out_of_memory(tiny_sd: Path, jobs: list[Job], free: Callable, monkeypatch) -> None:
    """A real failure of the allocator, for more pictures than one."""
    score = Brightness.score

    def greedy(self, images, prompts):
        return score(self, images, prompts) if len(images) < 2 else images.new_empty(10**15)

    monkeypatch.setattr(Brightness, "score", greedy)
    free(8.5)
    module = NoiseAlignment(StableDiffusion(str(tiny_sd), steps=3), Brightness(), MIRA())
    assert fitting(module, jobs, CPU, 1) == 1  # three were tried
    monkeypatch.setattr(Brightness, "score", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fitting(module, jobs, CPU, 1)


def test_the_run_names_a_number_and_equals_one_of_that_number(run_fit, tmp_path: Path, free: Callable, cache) -> None:
    free(3.5)
    found, given = run_fit(tmp_path / "a", *AUTO), run_fit(tmp_path / "b", "--data.batch_size", "3")
    assert batches(found) == 3
    first, second = (RunFolder(folder).records() for folder in (found, given))
    assert [record["config_hash"] for record in first] == [record["config_hash"] for record in second]
    assert [record["reward"] for record in first] == [record["reward"] for record in second]
    (place,) = json.loads(cache.read_text())
    assert place.startswith("CPU for 1, checkpoint, 0, ") and json.loads(cache.read_text()) == {place: 3}


def test_a_run_goes_on_with_its_size_whatever_fits_now(run_fit, tmp_path: Path, free: Callable, cache) -> None:
    free(3.5)
    folder = run_fit(tmp_path / "a", *AUTO)
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "records.jsonl").write_text("".join(lines[:3]))
    cache.unlink()
    free(2.5)
    run_fit(folder, *AUTO)
    assert batches(folder) == 3 and len(RunFolder(folder).records()) == 5
    assert not cache.exists()  # nothing was measured


def test_what_was_found_is_remembered(run_fit, tmp_path: Path, free: Callable, cache) -> None:
    """For one model, reward, engine and method; a damaged file is no obstacle."""
    free(3.5)
    run_fit(tmp_path / "a", *AUTO)
    free(2.5)
    assert batches(run_fit(tmp_path / "b", *AUTO, "--model.lr", "0.1")) == 3
    assert batches(run_fit(tmp_path / "c", *AUTO, "--model.engine", "walk")) == 2
    assert sorted(json.loads(cache.read_text()).values()) == [2, 3]
    cache.write_text("{")
    assert batches(run_fit(tmp_path / "d", *AUTO)) == 2


def test_no_more_than_there_are_jobs_or_a_cpu_takes(run_fit, tmp_path: Path, free: Callable) -> None:
    free(100)
    assert batches(run_fit(tmp_path / "a", *AUTO)) == 4
    assert batches(run_fit(tmp_path / "b", *AUTO, "--data.limit", "2")) == 2


def test_doctor_knows_the_size_of_a_run_that_has_begun(run_fit, arguments, tmp_path, free, capsys) -> None:
    free(3.5)
    flags = [*arguments, *AUTO, "--out", str(tmp_path / "a")]
    assert main(["doctor", *flags]) == 0
    assert "5 jobs done, as many at once as fit" in capsys.readouterr().out
    run_fit(tmp_path / "a", *AUTO)
    assert main(["doctor", *flags]) == 0
    assert "5 of 5 jobs done, 2 batches" in capsys.readouterr().out


def test_searches_want_a_number(arguments, tmp_path: Path, capsys) -> None:
    assert main(["fit", *arguments, *AUTO, "--model", "NoiseSearch", "--model.search", "FK"]) == 2
    assert "data.batch_size auto is for NoiseAlignment" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_align_wants_a_number(tiny_sd: Path) -> None:
    with pytest.raises(ValueError, match="batch_size auto is settled by"):
        align("a cat", StableDiffusion(str(tiny_sd), steps=3), Brightness(), MIRA(), batch_size="auto")  # type: ignore


def test_the_file_lies_in_the_users_cache(monkeypatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert memory_file() == Path.home() / ".cache" / "mira_pl" / "batch_sizes.json"


@pytest.mark.slow
def test_two_processes_take_the_size_of_the_first(run_fit, arguments, tmp_path: Path, free: Callable) -> None:
    """The second process measures nothing: it is told."""
    folder = tmp_path / "two"
    command = [sys.executable, "-m", "mira_pl", "fit", *arguments, *AUTO, "--trainer.devices", "2", "--out"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert batches(folder) == 3  # five jobs for two processes
    records = RunFolder(folder).records()
    assert len(records) == 5 and len({record["config_hash"] for record in records}) == 1
