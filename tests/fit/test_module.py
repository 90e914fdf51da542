"""The main job on a tiny model: what it writes, what it holds, when a job stops."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mira_pl import DNO, MIRA, Brightness, Darkness, StableDiffusion, align, draw
from mira_pl.fit.state import BatchState
from mira_pl.objectives import Objective, ReNO
from mira_pl.objectives.base import Loss
from mira_pl.problem import Problem
from mira_pl.prompts import make_jobs
from mira_pl.runs import RunFolder

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


def small_align(folder: Path, objective: Objective, prompts=("a cat", "a fox"), **options):
    backbone = StableDiffusion(str(folder), steps=3)
    return align(list(prompts), backbone, Brightness(), objective, trainer=QUIET, **{"iterations": 3, **options})


def test_run_folder_is_complete(run_fit, tmp_path):
    run = RunFolder(run_fit(tmp_path / "a"))
    records, trace = run.records(), run.trace()
    assert [record["prompt"] for record in records] == ["a white cat", "a fox", "a dog", "a blue bird", "a spider"]
    assert len(trace) == 5 * 4
    assert [row["iteration"] for row in trace[:4]] == ["0", "1", "2", "3"]
    for record in records:
        rows = [row for row in trace if row["key"] == record["key"]]
        assert float(rows[0]["reward"]) == record["reward_start"]
        assert float(rows[-1]["reward"]) == record["reward"]
        assert record["drift"] == pytest.approx(record["S0"] - record["S"])
        assert record["reward"] > record["reward_start"]
        noise = load_file(run.path / "noise" / f"{record['key']}.safetensors")
        assert noise["noise"].norm().item() == pytest.approx(record["noise_norm"], rel=1e-6)
        assert not torch.equal(noise["noise"], noise["start"])
    assert list((run.path / "state").iterdir()) == []


def test_compute_is_counted(run_fit, tmp_path):
    """Three iterations of T = 3 with guidance, and a last look; what an engine repeats to save memory counts once."""
    for engine in ("checkpoint", "full", "walk"):
        record = RunFolder(run_fit(tmp_path / engine, "--model.engine", engine)).records()[0]
        assert record["compute"] == {"unet": 3 * 6 + 6, "vae": 4, "reward": 4, "backward": 3 * 6}


def test_module_holds_the_noise_and_nothing_else(tiny_sd):
    from mira_pl.fit import NoiseAlignment

    module = NoiseAlignment(StableDiffusion(str(tiny_sd), steps=3), Brightness(), MIRA())
    assert list(module.state_dict()) == ["noise"]
    assert [name for name, _ in module.named_parameters()] == ["noise"]


def test_engines_and_batches_agree(tiny_sd):
    results = [
        small_align(tiny_sd, MIRA(), engine=engine, batch_size=size).images
        for engine, size in (("full", 2), ("checkpoint", 2), ("walk", 2), ("walk", 1))
    ]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    torch.testing.assert_close(results[0], results[3], atol=1e-4, rtol=1e-4)


def test_clipping_is_a_jobs_own(tiny_sd):
    """A job with a gradient a million times larger does not change its neighbour."""

    class Spiky(DNO):
        def loss(self, problem, noise, anchor, tick, memory):
            loss = super().loss(problem, noise, anchor, tick, memory)
            scale = torch.tensor([1e6 if prompt == "a cat" else 1.0 for prompt in problem.prompts])
            return Loss(loss.value * scale, loss.outcome)

    together = small_align(tiny_sd, Spiky(), clip_norm=1e-3)
    plain = small_align(tiny_sd, DNO(), clip_norm=1e-3)
    assert torch.equal(together.images[1], plain.images[1])


def test_sgd_is_torchs_with_nesterovs_momentum(tiny_sd):
    """ReNO's update on x_T alone: the steps' noises stay where they were."""
    options = {"optimizer": "sgd", "lr": 5.0, "momentum": 0.9, "weight_decay": 0.0, "clip_norm": 0.1}
    found = small_align(tiny_sd, ReNO(), prompts=["a cat"], **options)
    backbone = StableDiffusion(str(tiny_sd), steps=3)
    problem = Problem.of(backbone, Brightness(), make_jobs(["a cat"], [0]))
    noise = draw(problem.jobs, backbone.noise_shape).requires_grad_()
    optimizer = torch.optim.SGD([noise], lr=5.0, momentum=0.9, nesterov=True)
    for tick in range(3):
        optimizer.zero_grad()
        ReNO().loss(problem, noise, None, tick).value.sum().backward()
        noise.grad[:, :-1] = 0
        torch.nn.utils.clip_grad_norm_([noise], 0.1)
        optimizer.step()
    torch.testing.assert_close(found.images, problem.attempt(noise.detach()).trajectory.images, atol=1e-5, rtol=1e-5)
    assert not torch.equal(found.images, found.start_images)


def test_jobs_stop_on_their_own(tiny_sd):
    free = small_align(tiny_sd, DNO())
    rewards = [row["reward"] for row in free.trace if row["key"] == free.records[0]["key"]]
    target = (rewards[0] + rewards[1]) / 2
    other = [row["reward"] for row in free.trace if row["key"] == free.records[1]["key"]]
    assert not (other[0] >= target and rewards[0] >= target)
    stopped = small_align(tiny_sd, DNO(), target_reward=target)
    for record, start in zip(stopped.records, (rewards, other), strict=True):
        reached = next((k for k, reward in enumerate(start) if reward >= target), None)
        assert record["iterations"] == (3 if reached is None or reached == 3 else reached)
        if reached is not None:
            assert record["reward"] >= target - 1e-6
        alone = small_align(tiny_sd, DNO(), [record["prompt"]], target_reward=target)
        assert record["compute"] == alone.records[0]["compute"]  # whatever else was in its batch


def test_align_refuses_what_would_mix_or_cut_jobs(tiny_sd):
    for trainer, message in (
        ({"devices": 2}, "one process, trainer asks for 2"),
        ({"max_steps": 1}, "cuts jobs short"),
    ):
        with pytest.raises(ValueError, match=message):
            align("a cat", StableDiffusion(str(tiny_sd)), Brightness(), MIRA(), trainer={**QUIET, **trainer})


def test_patience_and_drift_limit(tiny_sd):
    class Backwards(DNO):
        def loss(self, problem, noise, anchor, tick, memory):
            loss = super().loss(problem, noise, anchor, tick, memory)
            return Loss(-loss.value, loss.outcome)

    worse = small_align(tiny_sd, Backwards(), patience=1)
    assert all(record["status"] == "stopped improving" and record["iterations"] == 1 for record in worse.records)
    limited = small_align(tiny_sd, DNO(), iterations=6, lr=0.5, drift_limit=0.02)
    for record in limited.records:
        rows = [row for row in limited.trace if row["key"] == record["key"]]
        assert abs(record["drift"]) <= 0.02 < max(abs(row["drift"]) for row in rows)
        assert record["reward"] == max(row["reward"] for row in rows if abs(row["drift"]) <= 0.02)
    patient = small_align(tiny_sd, DNO(), iterations=6, lr=0.5, drift_limit=0.02, patience=1)
    for record in patient.records:
        assert abs(record["drift"]) <= 0.02
        assert record["status"] == "stopped improving" and record["iterations"] < 6


def test_a_job_returns_its_best_iterate_before_its_clipscore_falls_too_far(tiny_sd):
    """Brightness stands in for CLIPScore: darker pictures fall, and the best within the limit is returned."""

    def dark(**options):
        backbone = StableDiffusion(str(tiny_sd), steps=3)
        options = {"clip": Brightness(), "iterations": 6, "lr": 0.05} | options
        return align(["a cat", "a fox"], backbone, Darkness(), DNO(), trainer=QUIET, **options)

    free = dark()
    falls = {row["key"]: 0.0 for row in free.trace}
    for row in free.trace:
        start = next(first["clip"] for first in free.trace if first["key"] == row["key"])
        falls[row["key"]] = max(falls[row["key"]], start - row["clip"])
    limit = max(falls.values()) / 2
    limited = dark(clip_limit=limit)
    for record in limited.records:
        passed = falls[record["key"]] > limit
        assert record["status"] == "finished"
        assert 0 < record["clip_start"] - record["clip"] <= limit
        rows = [row for row in limited.trace if row["key"] == record["key"]]
        assert (rows[-1]["clip"] < rows[0]["clip"] - limit) is passed
        assert record["reward"] == max(row["reward"] for row in rows if row["clip"] >= rows[0]["clip"] - limit)
    with pytest.raises(ValueError, match="clip_limit needs a CLIPScore"):
        dark(clip_limit=1.0, clip=None)


def test_keep_best_returns_the_best_iterate(tiny_sd):
    result = small_align(tiny_sd, DNO(), keep="best", optimizer="sgd", lr=500.0, iterations=4, elbo_pairs=1)
    earlier = 0
    for record in result.records:
        rows = [row for row in result.trace if row["key"] == record["key"]]
        best = max(rows, key=lambda row: row["reward"])
        assert record["reward"] == pytest.approx(best["reward"], abs=1e-6)
        assert record["elbo"] == best["elbo"]
        earlier += best["elbo"] != rows[-1]["elbo"]
    assert earlier == len(result.records)  # steps so large that the last iterate is none of the best


def test_initial_learns_x_T_alone(run_fit, tmp_path):
    run = run_fit(tmp_path / "a", "--model.objective.noises", "initial")
    for path in (run / "noise").iterdir():
        noise = load_file(path)
        assert torch.equal(noise["noise"][:-1], noise["start"][:-1])
        assert not torch.equal(noise["noise"][-1], noise["start"][-1])


@pytest.mark.parametrize("where", ["reward", "gradient"])
def test_a_job_that_is_not_finite_is_stopped_and_marked(tiny_sd, where):
    class Broken(DNO):
        def loss(self, problem, noise, anchor, tick, memory):
            loss = super().loss(problem, noise, anchor, tick, memory)
            bad = torch.tensor([prompt == "a cat" for prompt in problem.prompts])
            if tick < 1:
                return loss
            size = noise.flatten(1).sum(1)
            if where == "reward":
                poison = size * torch.where(bad, torch.inf, 0.0)
            else:  # the value is 0 and its gradient 0 / 0
                poison = (size * 0 + torch.where(bad, 0.0, 1.0)).sqrt() - torch.where(bad, 0.0, 1.0)
            return Loss(loss.value + poison, loss.outcome)

    result, plain = small_align(tiny_sd, Broken()), small_align(tiny_sd, DNO())
    assert [record["status"] for record in result.records] == ["failed: not finite", "finished"]
    assert torch.isfinite(result.images).all()
    assert torch.equal(result.images[1], plain.images[1])


def test_state_holds_tensors_and_primitives(arguments, tmp_path, monkeypatch):
    """The file a killed run goes on from loads with weights_only=True, and a corrupt one is named in one line."""
    kept = {}
    save = BatchState.save

    def save_and_keep(self, path, optimizer):
        save(self, path, optimizer)
        kept[path.name] = torch.load(path, weights_only=True)

    monkeypatch.setattr(BatchState, "save", save_and_keep)
    from mira_pl.fit.cli import fit

    fit(arguments)
    assert kept and all(value["tick"] == 3 for value in kept.values())
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(ValueError, match=r"broken\.pt.*Delete this file"):
        BatchState.load(broken, torch.device("cpu"))


def test_records_are_json_with_every_field(run_fit, tmp_path):
    lines = (run_fit(tmp_path / "a") / "records.jsonl").read_text().splitlines()
    wanted = {
        "key", "prompt", "seed", "method", "reward_name", "reward_start", "reward", "drift", "S0", "S",
        "clip_start", "clip",
        "noise_norm", "iterations", "seconds", "peak_memory_bytes", "compute", "config_hash", "versions",
    }  # fmt: skip
    for line in lines:
        assert wanted <= set(json.loads(line))
