"""An overlay runs alone: on the emoji world, unless a config brings a model."""

from pathlib import Path

import pytest

from mira_pl.__main__ import main
from mira_pl.fit.cli import parse, plain
from mira_pl.fit.defaults import DEFAULT_CONFIG, below
from mira_pl.runs import RunFolder

CONFIGS = Path(__file__).parents[2] / "configs"
METHODS = sorted((CONFIGS / "methods").glob("*.yaml"))
EMOJI = ["--config", DEFAULT_CONFIG]
TINY = ["--data.limit", "1", "--wandb.mode", "disabled"]


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        ([], EMOJI),
        (["--model.objective", "DNO"], EMOJI),
        (["--config", str(CONFIGS / "methods" / "dno.yaml")], EMOJI),
        (["-c", str(CONFIGS / "methods" / "fk.yaml")], EMOJI),
        ([f"--config={CONFIGS / 'rewards' / 'hps.yaml'}", "--data.limit", "1"], EMOJI),
        (["--config", str(CONFIGS / "emoji_jpeg.yaml")], []),
        (["--config", str(CONFIGS / "methods" / "dno.yaml"), "--config", str(CONFIGS / "sdxl_hps.yaml")], []),
        (["--config", "no-such-file.yaml"], []),
        (["--config"], []),
    ],
)
def test_the_emoji_world_is_below_what_brings_no_model(argv, wanted):
    assert below(argv) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("model: {backbone: StableDiffusion}", []),
        ("model: {class_path: NoiseSearch, init_args: {backbone: {class_path: SDXL}}}", []),
        ("model: {backbone: {init_args: {steps: 5}}}", EMOJI),
        ("model: NoiseSearch", EMOJI),
        ("[1, 2]", EMOJI),
        ("model: {", []),
    ],
)
def test_what_a_config_must_name(tmp_path, text, wanted):
    path = tmp_path / "given.yaml"
    path.write_text(text)
    assert below(["--config", str(path)]) == wanted


def test_an_overlay_alone_keeps_what_it_does_not_name():
    cli = parse(["--config", str(CONFIGS / "methods" / "prno.yaml")])
    model = plain(cli)["model"]
    assert model["objective"]["init_args"]["gamma"] == 1.0
    assert model["backbone"]["init_args"]["model"] == "emoji" and model["reward"]["class_path"].endswith("Darkness")


@pytest.mark.slow
@pytest.mark.parametrize("overlay", METHODS, ids=lambda path: path.stem)
def test_every_overlay_runs_alone(overlay, tmp_path):
    before, short = [], ["--model.backbone.init_args.steps", "2"]
    if overlay.stem == "reno":  # made for one step
        before, short = ["--config", str(CONFIGS / "emoji_turbo.yaml")], ["--model.iterations", "2"]
    assert main(["fit", *before, "--config", str(overlay), *TINY, *short, "--out", str(tmp_path)]) == 0
    (record,) = RunFolder(tmp_path).records()
    assert record["status"] == "finished"
