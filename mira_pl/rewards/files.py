"""Checkpoints that are no transformers folder: found on disk or on the hub, read without running what is in them."""

import pickle
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


def find(model: str, name: str) -> Path:
    """The checkpoint `model` itself, or file `name` (else model.safetensors) of a local folder or hub repository.

    Raises:
        FileNotFoundError: there is none, and none can be fetched.
    """
    path = Path(model)
    if path.is_file():
        return path
    if path.is_dir():
        for candidate in (path / name, path / "model.safetensors"):
            if candidate.is_file():
                return candidate
        raise FileNotFoundError(f"the folder {path} holds neither {name} nor model.safetensors")
    if path.suffix in (".safetensors", ".pt", ".pth"):
        raise FileNotFoundError(f"there is no file {path}: give a checkpoint, a folder that holds {name}, or a hub id")
    try:
        return Path(hf_hub_download(model, name))
    except (OSError, HFValidationError) as error:
        raise FileNotFoundError(
            f"{name} of {model!r} is neither on disk nor can it be fetched ({first_line(error)}): "
            "give a local file or folder, or a hub id on a machine that reaches the hub"
        ) from error


def load_state_dict(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint (.safetensors, .pt, .pth), on the CPU; pickled code is refused.

    Raises:
        ValueError: the file is damaged, holds code, or is no state dict.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content: Any = torch.load(file, weights_only=True, map_location="cpu")
    except (OSError, EOFError, TypeError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise ValueError(f"{file} cannot be read ({first_line(error)}): fetch it again") from error
    if isinstance(content, dict) and "state_dict" in content:
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{file} is no state dict: it must hold names and tensors")
    return content


def first_line(error: Exception) -> str:
    """What libraries say at length, in one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".: ")
