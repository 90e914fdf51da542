"""Every overlay that learns noise, under the main loop: counted, repeatable, resumable, blind to batch and process."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from compilers import NEEDS_COMPILER
from counted import FIELDS
from forked import comparable, in_child, same_files
from PIL import Image
from safetensors.torch import load_file

from mira_pl.fit.cli import fit
from mira_pl.fit.state import BatchState
from mira_pl.runs import RunFolder

ROOT = Path(__file__).parent.parent.parent
OVERLAYS = sorted((ROOT / "configs" / "methods").glob("*.yaml"))
LEARNED = [path for path in OVERLAYS if "NoiseSearch" not in path.read_text()]  # the others: test_search.py
QUICK = ("mira", "mira_dpo")
METHODS = [pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.slow) for path in LEARNED]
T, K = 6, 3  # denoiser calls of a sampling: three steps with guidance; iterations
LAST = {"unet": T, "vae": 1, "reward": 1, "backward": 0}
PLAIN = {"unet": T, "vae": 1, "reward": 1, "backward": T}
SPENT = {  # an iteration, and the looks at the end
    "mira_dpo": ({name: 2 * count for name, count in PLAIN.items()}, {name: 2 * count for name, count in LAST.items()}),
    "hybrid2": ({"unet": T + 4 * T, "vae": 5, "reward": 5, "backward": T}, LAST),
    "hybrid1": ({"unet": T, "vae": 1, "reward": 1 + 4, "backward": T}, LAST),
    "zo": ({"unet": T + 4 * T, "vae": 5, "reward": 5, "backward": 0}, LAST),
    "mira_hybrid2": ({"unet": T + 4 * T, "vae": 5, "reward": 5, "backward": T}, LAST),
    "initno": ({"unet": T + 10, "vae": 1, "reward": 1, "backward": 10}, LAST),  # ten updates a round
    "langevin": (PLAIN, {name: 2 * count for name, count in LAST.items()}),  # and the best one
    "reno": (PLAIN, {name: 2 * count for name, count in LAST.items()}),
    "guarded": (PLAIN | {"reward": 2}, LAST),  # the guard's score
}
CLIPPED = ("guarded",)  # these need a CLIPScore


@pytest.fixture
def method_flags(arguments: list[str], request: pytest.FixtureRequest) -> list[str]:
    """Two prompts in one batch under the overlay, shortened."""
    short = ["--model.iterations", str(K), "--data.prompts", '["a white cat", "a fox"]']
    clip = ["--model.clip", "CLIPScore"] if request.param.stem in CLIPPED else []
    return [*arguments, "--config", str(request.param), *short, *clip]


def run(flags: list[str], out: Path, *more: str) -> Path:
    fit([*flags, "--out", str(out), *more])
    return out


@pytest.fixture
def plain_run(arguments: list[str], tmp_path: Path) -> Path:
    """The same prompts by plain ascent on the reward."""
    prompts = ["--data.prompts", '["a white cat", "a fox"]', "--model.iterations", "1", "--model.objective", "DNO"]
    return run([*arguments, *prompts], tmp_path / "plain")


def pixels_of(path: Path) -> bytes:
    with Image.open(path) as picture:
        return picture.tobytes()


each_method = pytest.mark.parametrize("method_flags", METHODS, indirect=True)


@each_method
def test_a_run_is_counted_repeatable_and_resumable(method_flags, plain_run, tmp_path, monkeypatch, request) -> None:
    """Its first iteration shows the pictures that the frozen model draws, as under every other method."""
    name = request.node.callspec.id
    whole, again, killed = run(method_flags, tmp_path / "whole"), tmp_path / "again", tmp_path / "killed"
    records, trace = RunFolder(whole).records(), RunFolder(whole).trace()
    each, last = SPENT.get(name, (PLAIN, LAST))
    assert records[0]["compute"] == {part: K * each[part] + last[part] for part in each}
    assert all(set(record) == FIELDS for record in records)
    assert [row["iteration"] for row in trace] == [str(k) for k in range(K + 1)] * 2
    starts = [row for row in trace if row["iteration"] == "0"]
    assert [float(row["reward"]) for row in starts] == [record["reward_start"] for record in records]
    for record, row in zip(RunFolder(plain_run).records(), starts, strict=True):
        base = Path("images") / f"{record['key']}.base.png"
        assert pixels_of(whole / base) == pixels_of(plain_run / base)
        assert row["key"] == record["key"]
    torch.manual_seed(99)
    assert same_files(whole, run(method_flags, again))
    calls: list[int] = []
    save = BatchState.save

    def save_and_die(self: BatchState, *args: object) -> None:
        save(self, *args)
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(BatchState, "save", save_and_die)
        assert in_child(lambda: run(method_flags, killed)) == signal.SIGKILL
    assert list((killed / "state").iterdir())
    assert same_files(whole, run(method_flags, killed))
    assert comparable(RunFolder(killed).records()) == comparable(records)
    kept = ("loser_reward", "loser_drift", "beta", "reward", "drift")
    assert [[row[c] for c in kept] for row in RunFolder(killed).trace()] == [[row[c] for c in kept] for row in trace]


@each_method
def test_a_batch_is_its_jobs_alone(method_flags, tmp_path) -> None:
    together, single = (
        run(method_flags, tmp_path / "two"),
        run(method_flags, tmp_path / "one", "--data.batch_size", "1"),
    )
    for path in sorted((together / "noise").iterdir()):
        for name, noise in load_file(path).items():
            torch.testing.assert_close(load_file(single / "noise" / path.name)[name], noise, atol=2e-3, rtol=1e-3)


@pytest.mark.slow
@each_method
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_engines_change_no_byte(method_flags, tmp_path, precision) -> None:
    """In fp32 too, which is why they are no part of what makes a configuration."""
    flags = [*method_flags, "--trainer.precision", precision]
    whole = run(flags, tmp_path / "full", "--model.engine", "full")
    for engine, stored in (("checkpoint", "0"), ("checkpoint", "1"), ("walk", "0"), ("walk", "2")):
        other = tmp_path / f"{engine}-{stored}"
        run(flags, other, "--model.engine", engine, "--model.store_steps", stored)
        assert same_files(whole, other)
        assert comparable(RunFolder(other).records()) == comparable(RunFolder(whole).records())
        assert RunFolder(other).records()[0]["compute"] == RunFolder(whole).records()[0]["compute"]


@pytest.mark.slow
@each_method
def test_two_processes_are_one(method_flags, tmp_path) -> None:
    flags = [*method_flags, "--data.batch_size", "1"]
    one, two = run(flags, tmp_path / "one"), tmp_path / "two"
    command = [sys.executable, "-m", "mira_pl", "fit", *flags, "--out", str(two)]
    processes = ["--trainer.devices", "2"]
    quiet = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "PYTHONWARNINGS": "ignore"}
    subprocess.run([*command, *processes], env=os.environ | quiet, check=True, capture_output=True, timeout=300)
    assert same_files(one, two)
    assert comparable(RunFolder(two).records()) == comparable(RunFolder(one).records())


@NEEDS_COMPILER
@pytest.mark.slow
def test_a_compiled_fit_has_the_same_result_and_another_hash(arguments, tmp_path, monkeypatch) -> None:
    """Traced alone: kernels are in tests/backbones/test_compiled.py."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    eager = run(arguments, tmp_path / "eager")
    fast = run(arguments, tmp_path / "fast", "--model.backbone.init_args.compile", "full")
    for expected, found in zip(RunFolder(eager).records(), RunFolder(fast).records(), strict=True):
        assert found["reward"] == pytest.approx(expected["reward"], abs=1e-4)
        assert found["compute"] == expected["compute"] and found["config_hash"] != expected["config_hash"]


def test_a_pair_returns_its_winner_and_logs_the_loser_apart(arguments, tmp_path) -> None:
    """Both noises of a job are drawn, learned and compared; the base picture is that of the job's own seed."""
    dpo = ["--config", str(ROOT / "configs" / "methods" / "mira_dpo.yaml"), "--model.reward", "Brightness"]
    pair, plain = run([*arguments, *dpo], tmp_path / "pair"), run(arguments, tmp_path / "plain")
    trace = RunFolder(pair).trace()
    for record, other in zip(RunFolder(pair).records(), RunFolder(plain).records(), strict=True):
        rows = [row for row in trace if row["key"] == record["key"]]
        assert record["method"] == "MIRADPO" and record["reward_start"] == other["reward_start"]
        assert all(float(row["reward"]) > float(row["loser_reward"]) for row in rows[1:])
        assert float(rows[-1]["reward"]) == record["reward"] and float(rows[-1]["drift"]) == record["drift"]
        assert float(rows[0]["loser_drift"]) == 0 and float(rows[-1]["loser_drift"]) not in (0, record["drift"])
        base = Path("images") / f"{record['key']}.base.png"
        assert pixels_of(pair / base) == pixels_of(plain / base)
        learned, start = load_file(pair / "noise" / f"{record['key']}.safetensors").values()
        assert learned.shape == start.shape == (4, 4, 4, 4)
    assert all("loser_reward" not in row or row["loser_reward"] == "" for row in RunFolder(plain).trace())
