"""Hollow models: every weight of the real ones by name, shape and dtype, and none of their values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mira_pl.backbones import SDXL, PixArt, StableDiffusion
from mira_pl.hub.hollow import hollow, shapes
from mira_pl.rewards import Aesthetic, CLIPScore, HPSv2, PickScore

FOLDERS = {"tiny_sd": StableDiffusion, "tiny_sdxl": SDXL, "tiny_pixart": PixArt}


def weights(model: Any) -> dict[str, Tensor]:
    """Of every network that a backbone or reward holds."""
    parts = {**vars(model), **{f"encoder_{n}": part for n, part in enumerate(getattr(model, "encoders", ()))}}
    clip = parts.pop("clip", None)
    networks = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
    networks |= {} if clip is None else {"clip": clip.model}
    return {f"{name}.{key}": value for name, part in networks.items() for key, value in part.state_dict().items()}


def same(make: Callable[[], Any]) -> None:
    real = weights(make())
    with hollow():
        frames = weights(make())
    assert (
        real and all(value.is_meta for value in frames.values()) and not any(value.is_meta for value in real.values())
    )
    described = [{name: (value.shape, value.dtype) for name, value in group.items()} for group in (real, frames)]
    assert described[0] == described[1]


@pytest.mark.parametrize("folder", FOLDERS)
def test_backbones_have_their_shapes(request: pytest.FixtureRequest, folder: str) -> None:
    source = str(request.getfixturevalue(folder))
    same(lambda: FOLDERS[folder](source, steps=2, dtype="bfloat16"))


@pytest.mark.parametrize("reward", [Aesthetic, CLIPScore, HPSv2, PickScore])
def test_rewards_have_their_shapes(reward: Callable[..., Any]) -> None:
    same(lambda: reward(model="emoji"))


def test_hollow_towers_are_not_shared() -> None:
    with hollow():
        frames = PickScore(model="emoji")
    real = PickScore(model="emoji")
    with hollow():
        more = PickScore(model="emoji")
    assert [next(one.clip.model.parameters()).is_meta for one in (frames, real, more)] == [True, False, True]


def test_checkpoints_give_names_and_shapes(tmp_path: Path) -> None:
    tensors = {"weight": torch.ones(3, 2), "bias": torch.ones(3)}
    save_file(tensors, tmp_path / "one.safetensors")
    torch.save({"state_dict": tensors}, tmp_path / "two.pt")
    torch.save(tensors, tmp_path / "three.pth", _use_new_zipfile_serialization=False)  # as before 2020
    found = [
        shapes(tmp_path / "one.safetensors"),
        shapes(tmp_path / "two.pt")["state_dict"],
        shapes(tmp_path / "three.pth"),
    ]
    for read in found:
        assert {name: (value.shape, value.is_meta) for name, value in read.items()} == {
            name: (value.shape, True) for name, value in tensors.items()
        }
