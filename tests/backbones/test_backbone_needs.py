"""A backbone opens the files that it says it needs, and no others: the kernel's word against the class's."""

import shutil
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import original_layout
import pytest
import torch
from opened import Opened
from safetensors.torch import save_file

from mira_pl.backbones import SDXL, Flux, PixArt, Sana, StableDiffusion, StableDiffusion3
from mira_pl.backbones.latent import LatentDiffusion

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify")
Kind = type[LatentDiffusion]
SCHNELL = {"guidance": 1.0, "size": 8}
CASES: list[tuple[Kind, str, dict[str, Any]]] = [
    (StableDiffusion, "sd", {}),
    (SDXL, "sdxl", {}),
    (PixArt, "pixart", {}),
    (StableDiffusion3, "sd3", {}),
    (StableDiffusion3, "sd3", {"t5": False}),
    (Flux, "schnell", SCHNELL),
    (Sana, "sana", {}),
]


def assert_agreement(kind: Kind, root: Path, **given: Any) -> None:
    """Of all files below a root."""
    arguments = {name: parameter.default for name, parameter in signature(kind).parameters.items()} | given
    needs = kind.needs(**arguments)
    needed = {path.resolve() for need in needs.values() for path in need.look().files.values()}
    assert not any(need.look().missing for need in needs.values())
    opened = Opened(root)
    kind(**given)
    assert opened.take() == needed


@pytest.fixture
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy with files that nobody should read beside its weights."""
    folder = Path(shutil.copytree(request.getfixturevalue(f"tiny_{request.param}"), tmp_path / "model"))
    for config in list(folder.rglob("config.json")):
        for name in ("pytorch_model.bin", "diffusion_pytorch_model.bin", "model.fp16.safetensors", "README.md"):
            config.with_name(name).write_text("never read")
    return folder


@pytest.mark.parametrize(("kind", "model", "options"), CASES, indirect=["model"])
def test_of_a_folder(kind: Kind, model: Path, options: dict[str, Any]) -> None:
    assert_agreement(kind, model, model=str(model), steps=2, **options)


@pytest.mark.parametrize(("kind", "model"), [(StableDiffusion, "sd"), (SDXL, "sdxl")], indirect=["model"])
def test_of_a_single_file_with_loras(kind: Kind, model: Path, tmp_path: Path) -> None:
    """Of the folder that gives the settings no weights are needed."""
    layout = original_layout.sd1 if kind is StableDiffusion else original_layout.xl
    file = original_layout.write(tmp_path / "whole.safetensors", layout(kind(str(model), steps=2)))
    layer = "unet.mid_block.attentions.0.proj_in"
    pair = {f"{layer}.lora_A.weight": torch.ones(2, 16), f"{layer}.lora_B.weight": torch.ones(16, 2)}
    save_file(pair, tmp_path / "one.safetensors")
    (tmp_path / "two").mkdir()
    save_file(pair, tmp_path / "two" / "pytorch_lora_weights.safetensors")
    lora = [str(tmp_path / "one.safetensors"), str(tmp_path / "two")]
    assert_agreement(kind, tmp_path, model=str(file), config=str(model), lora=lora, steps=2)
