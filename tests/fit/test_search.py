"""Searches through `fit`: what they write, and that neither a kill nor a second process changes a byte."""

import csv
import os
import signal
import subprocess
import sys

import pytest
import torch
from forked import comparable, in_child, same_files
from PIL import Image
from safetensors.torch import load_file

from mira_pl import Brightness, StableDiffusion, align, sample
from mira_pl.fit import NoiseSearch
from mira_pl.fit.search_state import SearchState
from mira_pl.fit.state import COUNTS, BatchState
from mira_pl.rewards import JPEGSize
from mira_pl.runs import RunFolder
from mira_pl.searches import FK, BestOfN, CoDe, DyMO, Search
from mira_pl.types import Compute

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
FLAGS = {
    "BestOfN": ["--model.search.candidates", "3"],
    "FK": ["--model.search.particles", "3", "--model.search.rounds", "2"],
    "MIRAFK": ["--model.search.particles", "2", "--model.search.rounds", "2"],
    "CoDe": ["--model.search.candidates", "3", "--model.search.block", "2", "--model.search.rounds", "2"],
    "DAS": ["--model.search.particles", "2", "--model.search.rounds", "2"],
    "DPS": ["--model.search.rounds", "2"],
    "DyMO": ["--model.search.rounds", "2"],
}


def flags(name: str) -> list[str]:
    return ["--model", "NoiseSearch", "--model.search", name, *FLAGS[name]]


def small_search(folder, search: Search, prompts=("a cat", "a fox"), reward=Brightness(), **options):
    return align(list(prompts), StableDiffusion(str(folder), steps=3), reward, search, trainer=QUIET, **options)


@pytest.mark.parametrize("name", ["BestOfN", "DAS"])
def test_run_folder_is_complete(run_fit, tmp_path, name):
    run = RunFolder(run_fit(tmp_path / "a", *flags(name)))
    records, rounds = run.records(), 3 if name == "BestOfN" else 2
    assert [record["prompt"] for record in records] == ["a white cat", "a fox", "a dog", "a blue bird", "a spider"]
    assert all(record["method"] == name and record["status"] == "finished" for record in records)
    trace = run.trace()
    assert len(trace) == 5 * (rounds + 1)
    for record in records:
        rows = [row for row in trace if row["key"] == record["key"]]
        assert float(rows[0]["reward"]) == record["reward_start"] and float(rows[-1]["reward"]) == record["reward"]
        found = [float(row["candidate"]) for row in rows[1:]]
        assert record["reward"] == max(found) and rows[0]["candidate"] == ""
        for kind in ("", "base", *(["film"] if rounds > 2 else [])):
            assert run.image_path(record["key"], kind).exists()
    assert (run.path / "contact.png").exists() and list((run.path / "state").iterdir()) == []
    assert run.config()["model"]["class_path"] == "mira_pl.fit.NoiseSearch"


@pytest.mark.parametrize("name", ["BestOfN", "FK", "DAS", "DyMO"])
def test_the_noise_file_draws_the_image(run_fit, tmp_path, tiny_sd, name):
    run = RunFolder(run_fit(tmp_path / "a", *flags(name)))
    backbone = StableDiffusion(str(tiny_sd), steps=3)
    for record in run.records()[:2]:
        kept = load_file(run.path / "noise" / f"{record['key']}.safetensors")
        path = sample(backbone, backbone.encode([record["prompt"]]), kept["noise"][None])
        assert float(path.images.mean()) == pytest.approx(record["reward"], abs=1e-3)
        assert kept["noise"].norm().item() == pytest.approx(record["noise_norm"], rel=1e-5)


def test_images_that_no_noise_draws_have_none(tiny_sd, run_fit, tmp_path):
    run = run_fit(tmp_path / "a", *flags("DPS"), "--model.backbone.init_args.eta", "0")
    assert not (run / "noise").exists()
    assert all(record["noise_norm"] is None for record in RunFolder(run).records())


def test_compute_of_the_record_leaves_the_picture_of_the_start_to_those_that_use_it(tiny_sd):
    for search, expected in (
        (BestOfN(3), Compute(unet=3 * 6, vae=3, reward=3)),
        (CoDe(2, block=3), Compute(unet=2 * 6, vae=2, reward=2)),
        (DyMO(repeats=0), Compute(unet=3 * 2, vae=3, reward=3, backward=2 * 2)),
    ):
        assert small_search(tiny_sd, search).records[0]["compute"] == {name: getattr(expected, name) for name in COUNTS}


def test_jobs_stop_at_their_target(tiny_sd):
    free = small_search(tiny_sd, BestOfN(4))
    rows = [[row["reward"] for row in free.trace if row["key"] == record["key"]] for record in free.records]
    assert all(curve[1:] == sorted(curve[1:]) and curve[0] == curve[1] for curve in rows)
    target = (rows[0][-1] + min(rows[0])) / 2 if rows[0][-1] > rows[0][0] else rows[0][0] + 1
    stopped = small_search(tiny_sd, BestOfN(4), target_reward=target)
    for record, curve in zip(stopped.records, rows, strict=True):
        reached = next((k for k, reward in enumerate(curve) if reward >= target), None)
        assert record["iterations"] == (4 if reached is None else reached)
        assert record["reward"] == pytest.approx(curve[record["iterations"]], abs=1e-6)


def test_a_job_that_stopped_costs_no_more_though_its_batch_goes_on(tiny_sd):
    starts = [record["reward_start"] for record in small_search(tiny_sd, BestOfN(2)).records]
    target = sum(starts) / 2  # one is there from the start
    together = small_search(tiny_sd, BestOfN(4), target_reward=target).records
    assert len({record["compute"]["unet"] for record in together}) == 2
    for record in together:
        alone = small_search(tiny_sd, BestOfN(4), prompts=[record["prompt"]], target_reward=target)
        assert record["compute"] == alone.records[0]["compute"]


def test_patience_ends_a_search_that_finds_nothing(tiny_sd):
    class Falling(BestOfN):
        def solve(self, problem, noise, start, index):
            found = super().solve(problem, noise, start, index)
            lower = found.outcome.reward - index
            return type(found)(type(found.outcome)(found.outcome.trajectory, lower), found.noise, lower, found.ess)

    result = small_search(tiny_sd, Falling(8), patience=2)
    assert [record["status"] for record in result.records] == ["stopped improving"] * 2
    assert torch.equal(result.images, result.start_images)


def test_a_search_that_finds_no_number_is_marked_and_returns_its_start(tiny_sd):
    class Broken(Brightness):
        def score(self, images, prompts):
            late = torch.tensor([len(prompts) > 2 and prompt == "a cat" for prompt in prompts])
            return super().score(images, prompts) + torch.where(late, torch.nan, 0.0)

    broken, plain = (small_search(tiny_sd, FK(2), reward=reward) for reward in (Broken(), Brightness()))
    assert [record["status"] for record in broken.records] == ["failed: not finite", "finished"]
    assert torch.equal(broken.images[0], broken.start_images[0])
    assert torch.equal(broken.images[1], plain.images[1])


def test_black_boxes_are_searched(tiny_sd):
    result = small_search(tiny_sd, BestOfN(4), reward=JPEGSize())
    assert all(record["reward"] >= record["reward_start"] for record in result.records)


@pytest.mark.parametrize("name", FLAGS)
def test_start_image_is_that_of_the_seed_under_every_method(run_fit, tmp_path, name):
    short = ("--data.limit", "2")
    runs = [run_fit(tmp_path / "learned", *short), run_fit(tmp_path / "searched", *flags(name), *short)]
    for key in (record["key"] for record in RunFolder(runs[0]).records()):
        pixels = [pixels_of(run / "images" / f"{key}.base.png") for run in runs]
        assert pixels[0] == pixels[1]


def pixels_of(path) -> bytes:
    with Image.open(path) as picture:
        return picture.tobytes()


def test_films_show_the_best_so_far(tmp_path, run_fit):
    run = RunFolder(run_fit(tmp_path / "a", *flags("BestOfN"), "--model.search.candidates", "5", "--data.limit", "1"))
    key = run.records()[0]["key"]
    with Image.open(run.image_path(key, "film")) as film:
        frames = [film.crop((8 * k, 0, 8 * k + 8, 8)).tobytes() for k in range(film.width // 8)]
    assert len(frames) == 6  # start, four frames, result
    curve = [float(row["reward"]) for row in run.trace()]
    for k in range(1, 6):
        assert (frames[k] == frames[k - 1]) == (curve[k] == curve[k - 1])


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("FK", 3),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("BestOfN", 4), ("FK", 1), ("DAS", 3), ("DyMO", 5), ("DPS", 2), ("CoDe", 3), ("MIRAFK", 4))
        ),
    ],
)
def test_killed_after_a_round(run_fit, tmp_path, monkeypatch, name, count):
    whole, out = run_fit(tmp_path / "whole", *flags(name)), tmp_path / "killed"
    save, calls = BatchState.save, []

    def save_and_die(self, path, optimizer):
        save(self, path, optimizer)
        calls.append(1)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(BatchState, "save", save_and_die)
        assert in_child(lambda: run_fit(out, *flags(name))) == signal.SIGKILL
    run_fit(out, *flags(name))
    assert same_files(whole, out)
    assert comparable(RunFolder(out).records()) == comparable(RunFolder(whole).records())
    assert without_times(out) == without_times(whole)


def without_times(run) -> list[dict]:
    with (run / "trace.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def test_state_holds_tensors_and_primitives(run_fit, tmp_path, monkeypatch):
    ticks, save = [], BatchState.save

    def save_and_load(self, path, optimizer):
        save(self, path, optimizer)
        loaded = SearchState.load(path, torch.device("cpu"))[0]
        assert torch.equal(loaded.best.trajectory.images, self.best.trajectory.images)
        assert torch.equal(loaded.start.trajectory.eps, self.start.trajectory.eps)
        assert torch.equal(loaded.merit, self.merit) and loaded.trace == self.trace and loaded.jobs == self.jobs
        ticks.append(loaded.tick)

    monkeypatch.setattr(BatchState, "save", save_and_load)
    run_fit(tmp_path / "a", *flags("CoDe"))
    assert ticks == [1, 2] * 3


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FLAGS))
def test_two_processes(run_fit, arguments, tmp_path, name):
    """Rank 1 has nothing to do in the second round."""
    whole, out = run_fit(tmp_path / "one", *flags(name)), tmp_path / "two"
    more = ["--out", str(out), "--trainer.devices", "2"]
    subprocess.run(
        [sys.executable, "-m", "mira_pl", "fit", *arguments, *flags(name), *more],
        env=os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "PYTHONWARNINGS": "ignore"},
        check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    assert same_files(whole, out)
    assert comparable(RunFolder(out).records()) == comparable(RunFolder(whole).records())
    assert without_times(out) == without_times(whole)


def test_the_module_learns_nothing(tiny_sd):
    module = NoiseSearch(StableDiffusion(str(tiny_sd), steps=3), Brightness(), FK())
    assert module.state_dict() == {} and list(module.parameters()) == []
    with pytest.raises(ValueError, match="save_every must be greater than 0"):
        NoiseSearch(StableDiffusion(str(tiny_sd), steps=3), Brightness(), FK(), save_every=0)
