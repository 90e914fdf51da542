"""What users type wrong: one line, exit code 2, nothing written."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from mira_pl.__main__ import main
from mira_pl.fit import NoiseAlignment, NoiseSearch
from mira_pl.fit.cli import build, parse, plain
from mira_pl.objectives import DNO
from mira_pl.rewards import Brightness
from mira_pl.runs import RunFolder, config_hash
from mira_pl.searches import FK


def refused(capsys, *argv: str) -> str:
    """The one line that `fit` answers, once its exit code was seen to be 2."""
    try:
        code = main(["fit", *argv])
    except SystemExit as stop:
        code = stop.code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mira_pl:")]
    assert code == 2
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model.iteratons", "3"], ["iteratons", "Did you mean", "iterations"]),
        (["--model.reward", "Brightnes"], ["no reward is called 'Brightnes'", "Did you mean 'Brightness'"]),
        (["--model.objective", "MRIA"], ["MRIA", "Did you mean 'MIRA'"]),
        (["--model.iteration", "3"], ["'iteration'", "Did you mean 'iterations'"]),
        (["--wandb.mod", "offline"], ["wandb.mod", "Did you mean 'wandb.mode'"]),
        (["--data.prompt", "animals"], ["data.prompt", "Did you mean 'data.prompts'"]),
        (["--model.drift", "0.1"], ["'drift' is not accepted"]),
        (["--model.iterations", "many"], ["iterations", "many"]),
        (["--model.iterations", "0"], ["iterations", "greater than 0"]),
        (["--model.objective.beta", "-1"], ["beta", "-1"]),
        (["--model.backbone.init_args.steps", "0"], ["steps", "0"]),
        (["--model.backbone.init_args.eta", "2"], ["eta", "2"]),
        (["--model.backbone.init_args.guidance", "0.5"], ["guidance", "0.5"]),
        (["--model.backbone.init_args.guidance", ".inf"], ["guidance", "inf"]),
        (["--model.objective.beta", ".nan"], ["beta", "finite", "nan"]),
        (["--model.objective", "DNO", "--model.objective.gamma", ".inf"], ["gamma", "finite", "inf"]),
        (["--model.objective", "DNO", "--model.objective.opt_time", "100"], ["opt_time", "0..3", "100"]),
        (
            ["--model.objective", '{"class_path": "DNO", "init_args": {"gamma": 1, "subsample": 9}}'],
            ["262144", "divide", "lower subsample"],
        ),
        (
            [
                "--model.objective",
                '{"class_path": "EstimatedGradient", "init_args": {"objective": '
                '{"class_path": "DNO", "init_args": {"opt_time": 4}}}}',
            ],
            ["opt_time", "0..3", "got 4"],
        ),
        (["--model.lr", ".nan"], ["lr", "finite", "nan"]),
        (["--model.weight_decay", ".nan"], ["weight_decay", "finite", "nan"]),
        (["--model.clip_norm", ".inf"], ["clip_norm", "finite", "inf"]),
        (["--model.momentum", "2"], ["momentum", "[0, 1)", "2"]),
        (["--model.momentum", ".nan"], ["momentum", "[0, 1)", "nan"]),
        (["--model.target_reward", ".nan"], ["target_reward", "finite"]),
        (["--model.patience", "0"], ["patience", "greater than 0"]),
        (["--model.drift_limit", "-1"], ["drift_limit", "greater than 0"]),
        (["--model.store_steps", "-1"], ["store_steps", "at least 0"]),
        (["--model", "NoiseSearch", "--model.search", "FK", "--model.search.tilt", ".inf"], ["tilt", "finite"]),
        (["--model", "NoiseSearch", "--model.search", "FK", "--model.patience", "-1"], ["patience", "greater than 0"]),
        (
            [
                "--model.reward",
                '{"class_path": "Weighted", "init_args": {"terms": [{"reward": "Darkness", "weight": .nan}]}}',
            ],
            ["weight", "finite"],
        ),
        (["--data.seeds", "[36893488147419103232]"], ["seed", "2**63", "36893488147419103232"]),
        (["--data.seeds", "[-1]"], ["seed", "got -1"]),
        (["--data.prompts", "[]"], ["prompts", "empty"]),
        (["--data.prompts", "animls"], ["animls", "animals"]),
        (["--data.seeds", "[]"], ["seeds", "empty"]),
        (
            ["--model.reward", "JPEGSize"],
            ["JPEGSize", "gradient", "Brightness", "MIRADPO", "EstimatedGradient"],
        ),
        (
            ["--model.reward", '{"class_path": "BlackBox", "init_args": {"reward": "Darkness"}}'],
            ["but Darkness has none"],
        ),
        (["--model.objective", "DriftBudget", "--model.objective.budget", "0"], ["budget", "greater than 0"]),
        (["--model.backbone.init_args.model", "no/such/folder"], ["no/such/folder"]),
        (["--model", "NoiseSerch"], ["NoiseSerch", "Did you mean 'NoiseSearch'"]),
        (["--model", "NoiseSearch", "--model.search", "FKK"], ["no search is called 'FKK'", "Did you mean 'FK'"]),
        (["--model", "NoiseSearch", "--model.search", "FK", "--model.search.particle", "3"], ["'particles'"]),
        (["--model", "NoiseSearch", "--model.search", "FK", "--model.search.particles", "0"], ["particles", "got 0"]),
        (["--model", "NoiseSearch"], ["NoiseSearch", "search"]),
        (["--model", "NoiseSearch", "--model.search", "DAS", "--model.reward", "JPEGSize"], ["DAS", "JPEGSize", "FK"]),
        (
            ["--model", "NoiseSearch", "--model.search", "FK", "--model.backbone.init_args.eta", "0"],
            ["FK", "no noise", "eta", "BestOfN"],
        ),
        (
            ["--model", "NoiseSearch", "--model.search", "CoDe", "--model.backbone.init_args.steps", "1"],
            ["CoDe", "one step", "BestOfN"],
        ),
        (["--trainer.precision", "16-true"], ["precision", "16-true", "backbone.dtype"]),
        (["--trainer.gradient_clip_val", "1.0"], ["gradient_clip_val", "clip_norm"]),
        (["--trainer.devices", "0"], ["trainer", "devices='0'"]),
        (["--trainer.devices", "-2"], ["devices='-2'", "auto"]),
        (["--trainer.strategy", "ddp"], ["strategy 'ddp'", "independent_ddp"]),
        (["--trainer.strategy", "lightning.pytorch.strategies.FSDPStrategy"], ["FSDPStrategy", "independent_ddp"]),
        (["--trainer.accumulate_grad_batches", "2"], ["accumulate_grad_batches 2", "data.batch_size"]),
        (["--trainer.use_distributed_sampler", "true"], ["use_distributed_sampler True", "leave it out"]),
        (["--trainer.limit_train_batches", "0.5"], ["limit_train_batches 0.5", "model.iterations"]),
        (["--trainer.overfit_batches", "1"], ["overfit_batches", "model.iterations"]),
        (["--trainer.max_steps", "2"], ["max_steps 2", "model.iterations"]),
        (["--trainer.max_epochs", "2"], ["max_epochs 2", "data.limit"]),
        (["--trainer.max_time", "00:00:01:00"], ["max_time", "data.limit"]),
        (["--trainer.fast_dev_run", "true"], ["fast_dev_run True", "data.limit"]),
    ],
)
def test_one_line_for_a_mistake(capsys, arguments, tmp_path, flags, words):
    line = refused(capsys, *arguments, *flags)
    for word in words:
        assert word in line
    assert len(line) < 600
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "near"),
    [("model: {iteration: 1}", "iterations"), ("data: {prompt: animals}", "data.prompts"), ("modle: {lr: 1}", "model")],
)
def test_a_misspelt_key_of_a_file(capsys, arguments, tmp_path, text, near):
    (tmp_path / "more.yaml").write_text(text)
    assert f"Did you mean {near!r}?" in refused(capsys, *arguments, "--config", str(tmp_path / "more.yaml"))


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--model.engine", "walkk"], "walkk"),
        (["--model.store_steps", "autos"], "autos"),
        (["--model", "NoiseSearch", "--model.search", "FK", "--model.store_steps", "3"], "store_steps"),
    ],
)
def test_a_wrong_value_and_a_key_of_another_model_suggest_nothing(capsys, arguments, flags, named):
    line = refused(capsys, *arguments, *flags)
    assert "Did you mean" not in line and named in line


@pytest.mark.parametrize(("flags", "wanted"), [([], False), (["--overwrite"], True), (["--overwrite", "true"], True)])
def test_overwrite_needs_no_value(arguments, flags, wanted):
    assert parse([*arguments, *flags]).config["overwrite"] is wanted


def cut(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:1000])


def spoil(weights: Path) -> None:
    tensors = load_file(weights)
    tensors["conv_out.bias"][0] = torch.nan
    save_file(tensors, weights, {"format": "pt"})


def pickled(weights: Path) -> None:
    weights.rename(weights.with_suffix(".bin"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "corrupt weights in {file}"),
        (spoil, "{file} holds NaN or infinity in 'conv_out.bias'"),
        (pickled, "as a pickle alone (unet/diffusion_pytorch_model.bin)"),
        (Path.unlink, "the folder {file.parent} lacks unet/diffusion_pytorch_model.safetensors"),
    ],
)
def test_bad_weights_are_named_and_nothing_is_written(capsys, arguments, tiny_sd, tmp_path, damage, words):
    copy = Path(shutil.copytree(tiny_sd, tmp_path / "copy"))
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    damage(file)
    line = refused(capsys, *arguments, "--model.backbone.init_args.model", str(copy))
    assert words.format(file=file) in line and "python -m mira_pl fetch" not in line
    assert not (tmp_path / "run").exists()


def test_another_class_of_model_names_both(capsys, arguments, tiny_sdxl, tmp_path):
    line = refused(capsys, *arguments, "--model.backbone.init_args.model", str(tiny_sdxl))
    assert "StableDiffusionXLPipeline" in line and "StableDiffusionPipeline" in line and "SDXL reads it" in line
    assert not (tmp_path / "run").exists()


def test_another_configuration_in_the_folder(capsys, arguments, tmp_path):
    assert main(["fit", *arguments]) == 0
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    line = refused(capsys, *arguments, "--model.lr", "0.5")
    assert "--overwrite" in line and "--out" in line
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == before
    assert main(["fit", *arguments, "--model.lr", "0.5", "--overwrite", "true"]) == 0
    assert (tmp_path / "run" / "records.jsonl").read_bytes() != before


def test_out_of_memory_says_what_to_lower(capsys, arguments, tmp_path, monkeypatch):
    """A real failure of the allocator, in the reward."""
    monkeypatch.setattr(Brightness, "score", lambda self, images, prompts: images.new_empty(10**15).mean(dim=0))
    line = refused(capsys, *arguments)
    assert "out of memory" in line and "data.batch_size" in line and "--model.store_steps 0" in line
    search = refused(capsys, *arguments, "--out", str(tmp_path / "b"), "--model", "NoiseSearch", "--model.search", "FK")
    assert "out of memory" in search and "model.search.chunk" in search and "store_steps" not in search


def test_a_failed_job_is_told_and_harms_no_other(capsys, arguments, tmp_path, monkeypatch):
    """A reward that is NaN for one prompt: its neighbour in the batch ends with the same numbers as without it."""
    assert main(["fit", *arguments]) == 0
    assert "; 1 failed" not in capsys.readouterr().out
    plain_records = RunFolder(tmp_path / "run").records()
    score = Brightness.score

    def broken(self, images, prompts):
        bad = torch.tensor([prompt == "a fox" for prompt in prompts])
        return torch.where(bad, torch.nan, score(self, images, prompts))

    monkeypatch.setattr(Brightness, "score", broken)
    out = tmp_path / "broken"
    assert main(["fit", *arguments, "--out", str(out)]) == 0
    assert f"5 of 5 jobs done: {out / 'contact.png'}; 1 failed: see status in {out / 'records.jsonl'}" in (
        capsys.readouterr().out
    )
    records = RunFolder(out).records()
    assert [record["reward"] for record in records if record["prompt"] != "a fox"] == [
        record["reward"] for record in plain_records if record["prompt"] != "a fox"
    ]
    (fox,) = (record for record in records if record["prompt"] == "a fox")
    assert fox["reward"] is None and fox["status"] == "failed: not finite"


@pytest.mark.parametrize(
    "prompt",
    ["../../etc/passwd", "a/b\\c", "line\nbreak\tand \x07 bell", "<script>alert(1)</script>", "x" * 10_000, "猫 🐈"],
)
def test_prompts_of_any_kind(arguments, tmp_path, prompt):
    import json

    config = tmp_path / "odd.yaml"
    config.write_text(json.dumps({"data": {"prompts": [prompt]}}, ensure_ascii=False))
    assert main(["fit", *arguments, "--config", str(config), "--model.iterations", "1"]) == 0
    run = tmp_path / "run"
    record = json.loads((run / "records.jsonl").read_text())
    assert record["prompt"] == prompt
    inside = [path.resolve() for path in tmp_path.rglob("*.png")]
    assert all(path.is_relative_to(run.resolve()) for path in inside) and len(inside) == 3


def test_flags_reach_their_objects(arguments):
    cli = build(
        [
            *arguments,
            "--model.objective",
            "MIRA",
            "--model.objective.beta",
            "0.5",
            "--data.seeds",
            "[0, 1]",
            "--data.limit",
            "2",
        ]
    )
    assert isinstance(cli.model, NoiseAlignment) and cli.model.objective.beta == 0.5
    assert [(job.prompt, job.seed) for job in cli.datamodule.jobs] == [
        ("a white cat", 0), ("a fox", 0), ("a white cat", 1), ("a fox", 1),
    ]  # fmt: skip


def test_environment_variables(capsys, arguments, monkeypatch):
    monkeypatch.setenv("MIRA_MODEL__LR", "0.125")
    monkeypatch.setenv("MIRA_MODEL__ITERATIONS", "7")  # the config names it too, and wins
    cli = build(arguments)
    assert cli.model.lr == 0.125 and cli.model.iterations == 3
    monkeypatch.setenv("MIRA_MODEL__LRR", "0.125")
    assert "lrr" in refused(capsys, *arguments)


def test_a_search_takes_the_place_of_an_objective(arguments):
    """What both models have stays, what only one has goes: the base config names an objective and iterations."""
    flags = ["--model", "NoiseSearch", "--model.search", "FK", "--model.search.particles", "3"]
    cli = build([*arguments, *flags])
    assert isinstance(cli.model, NoiseSearch) and cli.model.search == FK(particles=3)
    assert isinstance(cli.model.reward, Brightness) and cli.model.backbone.schedule.steps == 3
    again = build([*arguments, *flags, "--model", "NoiseAlignment", "--model.objective", "DNO"])
    assert isinstance(again.model, NoiseAlignment) and again.model.objective == DNO()


@pytest.mark.parametrize("flags", [[], ["--model", "NoiseSearch", "--model.search", "CoDe"]])
def test_the_resolved_configuration_is_a_configuration(arguments, tmp_path, flags):
    """As it is written, and with the same hash: models of the default class are written as configs write them."""
    first = plain(build([*arguments, *flags]))
    assert ("class_path" in first["model"]) == bool(flags)
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(first))
    again = plain(build(["--config", str(tmp_path / "again.yaml")]))
    assert again == first and config_hash(again) == config_hash(first)


def test_print_config_builds_nothing(capsys, arguments, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["fit", *arguments, "--print_config"])
    assert stop.value.code == 0
    assert "class_path: mira_pl.objectives.mira.MIRA" in capsys.readouterr().out.replace(
        "mira_pl.MIRA", "mira_pl.objectives.mira.MIRA"
    )
    assert not (tmp_path / "run").exists()


def test_full_disk(arguments, tmp_path):
    """A real file size limit in a forked process: an error, and no torn file."""
    import resource

    from forked import in_child

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        assert main(["fit", *arguments]) == 2

    assert in_child(limited) == 0
    assert not list((tmp_path / "run").rglob(".*.tmp"))
