"""Needs are found wherever a configuration names a part that loads something."""

from pathlib import Path

import pytest

from mira_pl.fit.cli import parse, plain
from mira_pl.fit.needs import ensure, needs_of
from mira_pl.hub import WebFile


def config(*arguments: str):
    return plain(parse(arguments))


def needs(*arguments: str):
    return needs_of(config(*arguments))


def test_places_of_nested_rewards_and_of_prompts():
    found = needs("--config", "configs/pixart_compbench.yaml")
    assert {place.rsplit(".", 1)[0] for place in found} == {
        "model.backbone", "model.clip", *(f"model.reward.terms.{number}.reward" for number in range(4)), "data",
    }  # fmt: skip
    assert found["model.backbone.transformer"].source == "PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512"
    assert found["model.backbone.vae"].source == "PixArt-alpha/PixArt-XL-2-1024-MS"
    assert found["model.reward.terms.0.reward.checkpoint"].choices[0][0] == "HPS_v2.1_compressed.pt"
    assert isinstance(found["data.prompts"], WebFile)


def test_parts_that_load_nothing_need_nothing():
    assert set(needs("--model.reward", "Brightness", "--model.clip", "null")) == {
        f"model.backbone.{part}" for part in ("pipeline", "scheduler", "tokenizer", "text_encoder", "unet", "vae")
    }


def test_the_command_that_fetches_can_be_pasted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    given = ["--config", "configs/sd15_hps.yaml", "--data.prompts", '["a cat"]']
    with pytest.raises(FileNotFoundError, match=r"cannot be fetched from http://127.0.0.1:9: .*refused") as caught:
        ensure(config(*given), given)
    message = str(caught.value)
    assert message.endswith("""python -m mira_pl fetch --config configs/sd15_hps.yaml --data.prompts '["a cat"]'""")
    assert "missing of stable-diffusion-v1-5/stable-diffusion-v1-5, xswu/HPSv2, laion/CLIP-ViT-H" in message
    assert "\n" not in message


def test_what_is_here_asks_nobody(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    ensure(config(), [])
