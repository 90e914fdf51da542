"""What `doctor` says of a run before it: by exit code and line, on real folders, without reading weights."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from mira_pl.__main__ import main
from mira_pl.commands.doctor import duration

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def arguments(tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A fit of a tiny Stable Diffusion in a folder that may be broken; an empty hub cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    model = shutil.copytree(tiny_sd, tmp_path / "model")
    given = ["--model.backbone.init_args.model", str(model), "--model.backbone.init_args.steps", "2"]
    given += ["--model.reward", "Brightness", "--model.clip", "null", "--model.iterations", "1", "--data.limit", "2"]
    given += ["--wandb.mode", "disabled", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
    return [*given, "--out", str(tmp_path / "run")]


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code, and what was printed on both streams."""
    try:
        code = main(["doctor", *arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_a_run_that_could_start(capsys, arguments, tmp_path, monkeypatch):
    """Without weights ever being read, and without a trace on the disk."""

    def refuse(self: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        assert parameter is None or parameter.is_meta or name == "noise", f"{name} was made"
        register(self, name, parameter)

    register = torch.nn.Module.register_parameter
    monkeypatch.setattr(torch.nn.Module, "register_parameter", refuse)
    code, said = doctor(capsys, *arguments)
    assert code == 0, said
    size = (tmp_path / "model" / UNET).stat().st_size
    assert f"{size / 1000:.0f} kB  {UNET}" in said and "missing" not in said
    assert "0 of 2 jobs done" in said and "device: no GPU: the CPU" in said
    assert "memory: unknown for these models" in said and "time: unknown before the first job is done" in said
    assert said.strip().endswith(f"--out {tmp_path / 'run'}") and "ready: python -m mira_pl fit" in said
    assert not (tmp_path / "run").exists() and not (tmp_path / "hub").exists()


def test_the_packaged_models_are_here(capsys, tmp_path):
    code, said = doctor(capsys, "--model.reward", "Aesthetic", "--out", str(tmp_path / "run"))
    assert code == 0 and "assets/aesthetic (Apache-2.0)" in said and "0 of 4 jobs done" in said
    assert re.search(r"memory: about \d+ MB \(weights \d+ MB, one step \d+ MB, decoding and scoring \d+ MB; ", said)
    assert re.search(
        r"time: at least \d+ (seconds|minutes) \(operations counted, at the speed of a matrix product", said
    )
    searched = ["--config", "configs/emoji_aesthetic.yaml", "--config", "configs/methods/best_of_n.yaml"]
    code, said = doctor(capsys, *searched, "--out", str(tmp_path / "run"))
    assert code == 0 and "memory: unknown" in said and "time: unknown before the first job is done" in said


def test_a_duration_in_words():
    assert [duration(seconds) for seconds in (5, 119.4, 14 * 60, 3600 * 40, 86400 * 30)] == [
        "5 seconds", "119 seconds", "14 minutes", "40 hours", "30 days",
    ]  # fmt: skip


def test_what_is_missing_is_named_with_its_size_and_licence(capsys, arguments, tmp_path):
    given = [*arguments, "--model.reward", "HPSv2", "--data.prompts", "hpdv2/anime"]
    code, said = doctor(capsys, *given)
    assert code == 1
    assert "model.reward: xswu/HPSv2 (Apache-2.0)" in said
    assert "missing    ~2.0 GB  HPS_v2_compressed.pt or model.safetensors" in said
    assert "data: ymhao/HPDv2 (Apache-2.0)" in said and "missing             benchmark/anime.json" in said
    assert f"cache: {tmp_path / 'hub'}" in said
    assert "missing of xswu/HPSv2, laion/CLIP-ViT-H-14-laion2B-s32B-b79K, ymhao/HPDv2: python -m mira_pl fetch" in said
    assert "incomplete" not in said
    assert "jobs done" not in said  # the prompts are not known yet


@pytest.mark.parametrize(
    ("config", "model", "terms"),
    [
        ("sd35_hps", "stabilityai/stable-diffusion-3.5-medium", "Stability AI Community License; gated: accept"),
        ("flux_hps", "black-forest-labs/FLUX.1-schnell", "Apache-2.0; gated: accept"),
        ("sana_hps", "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers", "NSCL v2-custom)"),
    ],
)
def test_gated_models_are_named(capsys, tmp_path, monkeypatch, config, model, terms):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    code, said = doctor(capsys, "--config", f"configs/{config}.yaml", "--out", str(tmp_path / "run"))
    assert code == 1 and f"model.backbone: {model} ({terms}" in said
    assert "transformer/diffusion_pytorch_model.safetensors" in said and f"missing of {model}, " in said


def test_a_broken_file(capsys, arguments, tmp_path):
    file = tmp_path / "model" / UNET
    file.write_bytes(file.read_bytes()[:100])
    code, said = doctor(capsys, *arguments)
    assert code == 1 and f"broken       100 B  {UNET}" in said
    assert f"incomplete: {tmp_path / 'model'}; complete it" in said and "mira_pl fetch" not in said


def test_no_gpu_where_one_is_asked_for(capsys, arguments, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, said = doctor(capsys, *arguments, "--trainer.accelerator", "gpu")
    assert code == 1 and "trainer.accelerator is gpu, but torch sees no GPU" in said
    code, said = doctor(capsys, "--trainer.accelerator", "gpu", "--out", str(tmp_path / "other"))
    assert code == 1 and "time: unknown" in said  # that of the CPU would mislead
    assert "device: a GPU, which is not here" in said and "memory: about" in said  # which needs no card to be known


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model.iteratons", "3"], "Did you mean 'iterations'"),
        (["--model.iterations", "many"], "many"),
        (["--model.reward", "Brightnes"], "Did you mean 'Brightness'"),
        (["--trainer.precision", "16-true"], "would round the noise"),
        (["--model.backbone.init_args.model", "no/such/folder"], "there is no folder no/such/folder"),
        (["--model.backbone", "SDXL", "--model.backbone.model", "{model}"], "is a StableDiffusionPipeline by its"),
        (["--data.prompts", "animls"], "no prompt set is called 'animls'"),
        (["--model.lr", "-1"], "lr must be greater than 0, got -1.0"),
        (["--model.backbone.init_args.guidance", "0.5"], "guidance must be a finite number of at least 1"),
        (["--model.reward", "JPEGSize"], "MIRA needs reward gradients, but JPEGSize has none"),
        (["--model.backbone.init_args.lora_scale", "[1, 2]"], "one for each of 0 LoRAs"),
        (["--model.objective", "DNO", "--model.objective.opt_time", "9"], "opt_time must be in 0..2"),
        (["--wandb.mode", "online"], "W&B has no key"),
        (["--trainer.devices", "0"], "the trainer cannot run"),
    ],
)
def test_what_is_wrong_is_the_line_of_fit(capsys, arguments, tmp_path, flags, words):
    given = [*arguments, *(flag.format(model=tmp_path / "model") for flag in flags)]
    code, said = doctor(capsys, *given)
    (line,) = [line for line in said.splitlines() if line.startswith("mira_pl:")]
    assert code == 2 and words in line
    try:
        again = main(["fit", *given])
    except SystemExit as stop:
        again = stop.code
    assert again == 2 and line in capsys.readouterr().err


def test_minutes_come_from_the_jobs_that_are_done(capsys, arguments, tmp_path):
    assert main(["fit", *arguments]) == 0
    capsys.readouterr()
    assert " seconds left, by the mean" in doctor(capsys, *arguments)[1]
    records = tmp_path / "run" / "records.jsonl"
    first = json.loads(records.read_text().splitlines()[0]) | {"seconds": 600.0}
    records.write_text(json.dumps(first) + "\n")
    code, said = doctor(capsys, *arguments)
    assert code == 0 and "1 of 2 jobs done" in said and "about 10 minutes left" in said
    code, said = doctor(capsys, *arguments, "--model.lr", "0.5")
    assert code == 2 and "holds a run of another configuration" in said
    assert doctor(capsys, *arguments, "--model.lr", "0.5", "--overwrite", "true")[0] == 0
    assert records.exists()
