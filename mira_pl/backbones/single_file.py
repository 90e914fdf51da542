"""A whole Stable Diffusion in one .safetensors file, in the layout that CompVis and Stability publish."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .loading import load_part

SD1, SD2, XL = "Stable Diffusion 1.x", "Stable Diffusion 2.x", "SDXL"
OFFICIAL = {
    SD1: "stable-diffusion-v1-5/stable-diffusion-v1-5",
    SD2: "stabilityai/stable-diffusion-2-1",
    XL: "stabilityai/stable-diffusion-xl-base-1.0",
}
OPEN_CLIP = ".model."
TEXT = {
    XL: {"text_encoder": "conditioner.embedders.0.transformer.", "text_encoder_2": "conditioner.embedders.1.model."},
    "the refiner of SDXL": {"text_encoder_2": "conditioner.embedders.0.model."},
    SD2: {"text_encoder": "cond_stage_model.model."},
    SD1: {"text_encoder": "cond_stage_model.transformer."},
}  # where each family keeps its text encoders: nothing else tells the families apart at every size
UNET, UNET_AVERAGE, VAE = "model.diffusion_model.", "model_ema.", "first_stage_model."
CONV_IN = f"{UNET}input_blocks.0.0.weight"


@dataclass(frozen=True)
class SingleFile:
    """A checkpoint in the original layout.

    Attributes:
        path: of the .safetensors file.
        family: a key of `TEXT`.
        config: folder or hub id in diffusers layout, which gives everything but the weights.
    """

    path: Path
    family: str
    config: str

    def part(self, kind: Any, name: str) -> Any:
        """The part of class `kind` that diffusers calls `name` and that has no weights, from `config`."""
        return self._from_config(kind.from_pretrained, name)

    def network(self, kind: Any, name: str, dtype: torch.dtype) -> Any:
        """The network of class `kind` that diffusers calls `name`, every weight of it from the file.

        Raises:
            FileNotFoundError: `config` lacks the network's configuration.
            ValueError: the file lacks weights of the network so configured, or holds others.
        """
        part = self._untrained(kind, name)
        try:
            report = part.load_state_dict(self._weights(part, name), strict=False)
        except (KeyError, RuntimeError) as error:
            raise self._misfit(name, str(error).strip().split("\n")[-1].strip()) from error
        strange = [key for key in report.unexpected_keys if not key.endswith("position_ids")]  # once saved, never read
        for what, keys in (("lacks", report.missing_keys), ("also holds", strange)):
            if keys:
                raise self._misfit(name, f"it {what} {len(keys)} tensors, the first is {keys[0]!r}")
        return nn.Module.to(part, dtype).eval()

    def _untrained(self, kind: Any, name: str) -> Any:
        ours = ModelMixin in kind.__mro__  # of diffusers; the text encoders are of transformers
        settings = self._from_config(kind.load_config if ours else kind.config_class.from_pretrained, name)
        return kind.from_config(settings) if ours else kind(settings)

    def _from_config(self, from_pretrained: Callable[..., Any], name: str) -> Any:
        try:
            return load_part(from_pretrained, self.config, name)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.path} has weights alone, the rest is that of `config`: {error}") from error

    def _misfit(self, name: str, reason: str) -> ValueError:
        return ValueError(f"{self.path} does not fit the {name} of {self.config!r}: {reason}; name another `config`")

    def _weights(self, part: Any, name: str) -> dict[str, Tensor]:
        """The network's tensors by the names of diffusers and transformers."""
        if name == "unet":
            found = self._read(UNET, UNET_AVERAGE)  # the average, where there is one, is what the hub has
            converted = convert_ldm_unet_checkpoint(found, part.config, extract_ema=True)
        elif name == "vae":
            converted = convert_ldm_vae_checkpoint(self._read(VAE), part.config)
        else:
            converted = self._text_weights(part, TEXT[self.family][name])
        return {key: value for key, value in converted.items() if value is not None}

    def _text_weights(self, part: Any, prefix: str) -> dict[str, Tensor]:
        found = self._read(prefix)
        if prefix.endswith(OPEN_CLIP):
            named = convert_open_clip_checkpoint(part, found, prefix)
        else:
            named = convert_ldm_clip_checkpoint(found)
        if any(key.startswith("text_model.") for key in part.state_dict()):
            return named
        return {key.removeprefix("text_model."): value for key, value in named.items()}  # CLIPTextModel since 5.6

    def _read(self, *prefixes: str) -> dict[str, Tensor]:
        with safe_open(self.path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys() if key.startswith(prefixes)}  # noqa: SIM118


def family_of(path: Path) -> str:
    """What a checkpoint in the original layout holds, by its text encoders.

    Raises:
        ValueError: the file is corrupt, or in another layout.
    """
    try:
        with safe_open(path, "pt") as file:
            keys = sorted(file.keys())
            channels = file.get_slice(CONV_IN).get_shape()[1] if CONV_IN in keys else 0
    except SafetensorError as error:
        raise ValueError(f"corrupt weights in {path}: delete the file and fetch it again") from error
    for family, encoders in TEXT.items():
        if channels and all(any(key.startswith(prefix) for key in keys) for prefix in encoders.values()):
            return f"{family} for inpainting" if channels == 9 else family
    raise ValueError(
        f"{path} is no whole Stable Diffusion in the original layout: it lacks {CONV_IN!r} or a text encoder, "
        f"and begins with {keys[:1]}; give a whole checkpoint, or a folder in diffusers layout"
    )
