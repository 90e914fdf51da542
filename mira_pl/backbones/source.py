"""Where the weights of a model lie: a folder in diffusers layout, a hub repository, or a single file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin

from ..rewards.files import find
from .loading import load_part, load_weights
from .single_file import OFFICIAL, SingleFile, family_of

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
HUB_FILE = re.compile(r"(\w[\w.-]*/[\w.-]+)/(.+\.safetensors)")


@dataclass(frozen=True)
class Folder:
    """A folder or repository in diffusers layout, or a packaged model.

    Attributes:
        config: its name; it gives everything, the weights included.
    """

    config: str

    def part(self, kind: Any, name: str) -> Any:
        """The part of class `kind` in subfolder `name`, which has no weights; see `load_part`."""
        return load_part(kind.from_pretrained, self.config, name)

    def network(self, kind: Any, name: str | None, dtype: torch.dtype) -> Any:
        """The network of class `kind` in subfolder `name` (None: the folder holds nothing else); see `load_weights`."""
        if issubclass(kind, ModelMixin):
            options: dict[str, Any] = {"torch_dtype": dtype, "low_cpu_mem_usage": False}  # quick needs accelerate
        else:
            options = {"dtype": dtype}
        return load_weights(kind.from_pretrained, self.config, name, **options)


def find_source(model: str, config: str | None, families: Sequence[str], backbone: str) -> Folder | SingleFile:
    """A model's folder or single file.

    Args:
        model: packaged name, folder, hub id, .safetensors file, or owner/repository/file.safetensors of the hub.
        config: see `SingleFile`; None is the official repository of the file's family.
        families: what the backbone can load from a single file.
        backbone: its name, for errors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is a pickle, corrupt, or of another family.
    """
    if model.endswith(PICKLES):
        raise ValueError(f"{model} is a pickle, which could run code: give the .safetensors file of the same model")
    if not model.endswith(".safetensors"):
        if config is not None:
            raise ValueError(f"config {config!r} goes with a single .safetensors file; model {model!r} has its own")
        return Folder(model)
    if not families:
        raise ValueError(f"{backbone} loads folders in diffusers layout and hub ids, not the single file {model}")
    path = find_file(model, "model.safetensors")
    family = family_of(path)
    if family not in families:
        raise ValueError(f"{path} holds {family}, but {backbone} loads {' and '.join(families)}")
    return SingleFile(path, family, config or OFFICIAL[family])


def find_file(name: str, default: str) -> Path:
    """A file on disk, `default` in a folder or hub repository, or owner/repository/file.safetensors of the hub."""
    on_hub = HUB_FILE.fullmatch(name)
    if on_hub and not Path(name.split("/")[0]).exists():
        return find(*on_hub.groups())
    return find(name, default)
