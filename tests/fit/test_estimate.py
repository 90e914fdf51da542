"""Memory by hand from parameters and shapes."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from mira_pl.fit.cli import parse, plain
from mira_pl.fit.estimate import memory, parameters
from mira_pl.fit.needs import needs_of
from mira_pl.fit.parts import Parts
from mira_pl.hub import Need

XL_HPS = ["--config", "configs/sdxl_hps.yaml"]


@pytest.fixture
def estimate(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def of(*arguments: str):
        config = plain(parse(arguments))
        return memory(Parts.of(config, needs_of(config)))

    return of


def test_sdxl_in_bfloat16_by_hand(estimate):
    known = estimate(*XL_HPS)
    frozen, rewards = 2_567_463_684 + 83_653_863, 986_109_441 + 427_616_513
    assert known.weights == pytest.approx((2 * frozen + 4 * rewards) / 1e9)
    assert known.encoders == pytest.approx(2 * (123_060_480 + 694_659_840) / 1e9)
    assert known.step == pytest.approx(2 * 5.337)  # guidance doubles the batch
    assert known.pictures == pytest.approx(11.93 / 2 + 0.4282 + 0.3601)  # half is recomputed
    assert known.peak == pytest.approx(known.weights + known.step)
    whole = estimate(*XL_HPS, "--model.backbone.init_args.checkpoint_vae", "false")
    assert whole.pictures == pytest.approx(known.pictures + 11.93 / 2)
    assert whole.peak == pytest.approx(whole.weights + whole.pictures)


def test_what_it_grows_with(estimate):
    one = estimate(*XL_HPS)
    four = estimate(*XL_HPS, "--data.batch_size", "4")
    assert (four.step, four.pictures) == pytest.approx((4 * one.step, 4 * one.pictures)) and four.weights == one.weights
    assert estimate(*XL_HPS, "--model.backbone.init_args.dtype", "float32").step == pytest.approx(2 * one.step)
    assert estimate(*XL_HPS, "--model.backbone.init_args.guidance", "1").step == pytest.approx(one.step / 2)
    stored = estimate(*XL_HPS, "--model.store_steps", "3")
    assert stored.peak == pytest.approx(one.weights + 4 * one.step)
    annealed = estimate(*XL_HPS, "--model.backbone.init_args.anneal", "linear")  # a second U-Net, asked in every step
    assert annealed.weights == pytest.approx(one.weights + 2 * 2_567_463_684 / 1e9)
    assert annealed.step == pytest.approx(2 * one.step) and annealed.pictures == one.pictures
    full = estimate(*XL_HPS, "--model.engine", "full")
    assert full.peak == pytest.approx(one.weights + 100 * one.step)


@pytest.mark.parametrize("config", sorted(Path("configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_memory_of_every_config_is_known(estimate, config):
    known = estimate("--config", str(config))
    assert known.peak > known.weights > 0.02


def test_the_packaged_models_by_hand(estimate):
    """The default run: four jobs, guidance, float32, Darkness."""
    known = estimate()
    assert known.step == pytest.approx(4 * 2 * 2 * 0.003603)
    assert known.pictures == pytest.approx(4 * (2 * 0.007039 / 2 + 0.004406))
    assert 0.05 < known.weights < known.peak < 0.2
    scored = estimate("--model.reward", "HPSv2", "--model.reward.model", "emoji")
    assert scored.pictures == pytest.approx(known.pictures + 4 * 0.003208)


def test_guidance_that_is_an_input_doubles_nothing(estimate):
    dev = ["--model.backbone.init_args.model", "black-forest-labs/FLUX.1-dev", "--model.backbone.init_args.guidance"]
    known = estimate("--config", "configs/flux_hps.yaml", *dev, "3.5", "--model.backbone.init_args.size", "1024")
    assert known.step == pytest.approx(21.62)


def test_what_nobody_counted_is_unknown(estimate):
    assert estimate(*XL_HPS, "--model.backbone.init_args.model", "us/other").peak is None
    larger = estimate("--config", "configs/flux_hps.yaml", "--model.backbone.init_args.size", "1024")
    assert larger.peak is None and larger.weights > 20


def test_one_step_keeps_nothing_beside_it(estimate):
    student = ["--config", "configs/pixart_compbench.yaml"]
    assert estimate(*student, "--model.engine", "full").stored == 0


def test_of_a_search_the_weights_are_known(estimate):
    searched, learned = estimate(*XL_HPS, "--config", "configs/methods/fk.yaml"), estimate(*XL_HPS)
    assert searched.peak is None and (searched.weights, searched.encoders) == (learned.weights, learned.encoders)


def test_parameters_are_read_from_headers(tiny_sd):
    count = sum(t.numel() for t in load_file(tiny_sd / "unet" / "diffusion_pytorch_model.safetensors").values())
    need = Need(str(tiny_sd), "unet", (("config.json",), ("diffusion_pytorch_model.safetensors",)))
    assert parameters(need) == count
