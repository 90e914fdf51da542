"""Memory by hand from parameters and shapes."""

import pytest
from safetensors.torch import load_file

from mira_pl.fit.cli import ParsedCLI, build, plain
from mira_pl.fit.estimate import memory, parameters, seconds_left
from mira_pl.fit.needs import needs_of
from mira_pl.hub import Need

XL_HPS = ["--config", "configs/sdxl_hps.yaml"]


@pytest.fixture
def estimate(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def of(*arguments: str):
        config = plain(build(arguments, ParsedCLI))
        return memory(config, needs_of(config))

    return of


def test_sdxl_in_bfloat16_by_hand(estimate):
    known = estimate(*XL_HPS)
    frozen, rewards = 2_567_463_684 + 83_653_863, 986_109_441 + 427_616_513
    assert known.weights == pytest.approx((2 * frozen + 4 * rewards) / 1e9)
    assert known.encoders == pytest.approx(2 * (123_060_480 + 694_659_840) / 1e9)
    assert known.step == pytest.approx(2 * 5.34)  # guidance doubles the batch
    assert known.pictures == pytest.approx(11.9 / 2 + 2 * (0.30 + 0.18))  # half is recomputed; rewards are in float32
    assert known.peak == pytest.approx(known.weights + known.step)
    whole = estimate(*XL_HPS, "--model.backbone.init_args.checkpoint_vae", "false")
    assert whole.pictures == pytest.approx(known.pictures + 11.9 / 2)
    assert whole.peak == pytest.approx(whole.weights + whole.pictures)


def test_what_it_grows_with(estimate):
    one = estimate(*XL_HPS)
    four = estimate(*XL_HPS, "--data.batch_size", "4")
    assert (four.step, four.pictures) == pytest.approx((4 * one.step, 4 * one.pictures)) and four.weights == one.weights
    assert estimate(*XL_HPS, "--model.backbone.init_args.dtype", "float32").step == pytest.approx(2 * one.step)
    assert estimate(*XL_HPS, "--model.backbone.init_args.guidance", "1").step == pytest.approx(one.step / 2)
    stored = estimate(*XL_HPS, "--model.store_steps", "3")
    assert stored.peak == pytest.approx(one.weights + 4 * one.step)
    full = estimate(*XL_HPS, "--model.engine", "full")
    assert full.peak == pytest.approx(one.weights + 100 * one.step)


def test_a_model_nobody_counted_is_unknown(estimate):
    assert estimate(*XL_HPS, "--model.backbone.init_args.model", "us/other").peak is None
    emoji = estimate()
    assert emoji.peak is None and 0.05 < emoji.weights < 0.1


def test_of_a_search_the_weights_are_known(estimate):
    searched, learned = estimate(*XL_HPS, "--config", "configs/methods/fk.yaml"), estimate(*XL_HPS)
    assert searched.peak is None and (searched.weights, searched.encoders) == (learned.weights, learned.encoders)


def test_parameters_are_read_from_headers(tiny_sd):
    count = sum(t.numel() for t in load_file(tiny_sd / "unet" / "diffusion_pytorch_model.safetensors").values())
    need = Need(str(tiny_sd), "unet", (("config.json",), ("diffusion_pytorch_model.safetensors",)))
    assert parameters(need) == count


def test_time_is_the_mean_of_what_is_done():
    assert seconds_left([], 5) is None
    assert seconds_left([{"seconds": 10.0}, {"seconds": 20.0}], 5) == 45.0
