"""Weights from files that are there: safetensors, or pickles without code; every failure names the file."""

import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from .fetch import ready
from .hollow import is_hollow, shapes, untrained
from .need import Found, Need, is_weights

ZIP, PICKLE = b"PK", b"\x80\x02"
"""How files of torch.save begin, and those from before 2020."""

LAYOUTS = {
    "text_model.": "a CLIPModel of transformers",
    "visual.conv1": "a CLIP in open_clip's layout",
    "blip.visual_encoder.": "an ImageReward",
    "layers.0.weight": "an aesthetic head",
    "decoder.conv_in": "a VAE",
    "down_blocks.": "a U-Net",
}
"""What a checkpoint is, by the beginning of a name in it."""


def load_part(from_pretrained: Callable[..., Any], need: Need, **options: Any) -> Any:
    """One component, from files that are fetched first where they are not there yet.

    Args:
        from_pretrained: of the component's class.
        need: its files.
        options: for `from_pretrained`.

    Raises:
        OSError: the files are neither there nor can they be fetched.
        ValueError: they are there but cannot be read.
    """
    found = ready(need)
    try:
        return from_pretrained(str(found.folder), **options)
    except Exception as error:  # of three libraries, none of which reliably says which file is wrong
        corrupt = next(filter(broken, found.files.values()), None)
        if corrupt is not None:
            what = "weights in" if is_weights(corrupt.name) else "file"
            raise ValueError(f"corrupt {what} {corrupt}: delete the file and fetch it again") from error
        raise ValueError(f"cannot load {found.folder}: {first_line(error)}") from error


def load_weights(kind: Any, need: Need, dtype: torch.dtype) -> Any:
    """One component that has weights: every one of them from the file, and every one a number.

    Within `hollow` the files are not read, nor looked at.

    Args:
        kind: its class, of diffusers or transformers.
        need: its files.
        dtype: of the weights.

    Raises:
        OSError: see `load_part`.
        ValueError: the file is corrupt, lacks weights of the model, which the libraries would make up at random, or
            holds NaN or infinity.
    """
    if is_hollow():
        return untrained(kind, load_settings(kind, need)).to(dtype)
    options: dict[str, Any] = {"output_loading_info": True, "use_safetensors": True}  # a pickle could run code
    options |= {"ignore_mismatched_sizes": True}  # only so that they are reported: neither library names the file
    if issubclass(kind, ModelMixin):
        options |= {"torch_dtype": dtype, "low_cpu_mem_usage": False}  # the quick way needs accelerate
    else:
        options |= {"dtype": dtype}
    part, report = load_part(kind.from_pretrained, need, **options)
    found = need.look()
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"the weights in {found.folder} lack {len(missing)} tensors, the first is {missing[0]!r}: "
            "they are of another model, or incomplete; fetch them again"
        )
    if report["mismatched_keys"]:
        name, *shapes = sorted(report["mismatched_keys"])[0]
        there, wanted = (list(shape) for shape in shapes)
        raise ValueError(
            f"the weights in {found.folder} do not fit their config.json: {name!r} has the shape {there}, "
            f"the model's is {wanted}; fetch them again"
        )
    check_finite(part, found)
    return part


def load_settings(kind: Any, need: Need) -> Any:
    """The configuration of a network of class `kind`, as `untrained` takes it."""
    ours = ModelMixin in kind.__mro__  # of diffusers; the others are of transformers
    return load_part(kind.load_config if ours else kind.config_class.from_pretrained, need)


def load_state_dict(file: Path, unused: str = "") -> dict[str, Tensor]:
    """The tensors of a checkpoint (.safetensors, .pt, .pth), on the CPU; pickled code is refused.

    Args:
        file: the checkpoint.
        unused: tensors whose names end so are left out.

    Raises:
        ValueError: the file is damaged, holds code, NaN or infinity, or is no state dict.
    """
    try:
        content = shapes(file) if is_hollow() else read(file)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file} is damaged, or holds code besides tensors, which is never run: "
            "fetch it again, or take the official file"
        ) from error
    except (OSError, EOFError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{file} cannot be read ({first_line(error)}): fetch it again") from error
    if isinstance(content, dict) and "state_dict" in content:
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{file} is no state dict: it must hold names and tensors")
    content = {name: value for name, value in content.items() if not unused or not name.endswith(unused)}
    for name, value in content.items():
        if not finite(value):
            raise ValueError(not_finite(file, name))
    return content


def read(file: Path) -> Any:
    """What a checkpoint holds; code in it is not run."""
    if file.suffix == ".safetensors":
        return load_file(file)
    return torch.load(file, weights_only=True, map_location="cpu")


def check_finite(part: Any, found: Found) -> None:
    """Every weight of a component must be a number.

    Raises:
        ValueError: one is not; names the tensor in the files that the component came from, whose names may be others.
    """
    if all(map(finite, part.parameters())):
        return
    for path in (path for path in found.files.values() if path.suffix == ".safetensors"):
        with safe_open(path, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118  no mapping
                if not finite(weights.get_tensor(name)):
                    raise ValueError(not_finite(path, name))
    dtype = str(next(part.parameters()).dtype).removeprefix("torch.")
    raise ValueError(f"weights in {found.folder} are beyond the range of {dtype}: take dtype float32 or bfloat16")


def finite(tensor: Tensor) -> bool:
    """Whether every value is a number. A pass for both extremes, which keep NaN, costs a twentieth of `isfinite`."""
    if not tensor.is_floating_point() or not tensor.numel() or tensor.is_meta:
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) & torch.isfinite(high))


def broken(file: Path) -> bool:
    """Whether a file of weights or of JSON is cut off or is none; of other files nothing is said."""
    if file.suffix in (".pt", ".pth"):
        with file.open("rb") as opened:
            start = opened.read(2)
        return not (zipfile.is_zipfile(file) if start == ZIP else start == PICKLE)
    try:
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        elif file.suffix == ".safetensors":
            with safe_open(file, "pt"):
                pass
    except (SafetensorError, ValueError):
        return True
    return False


def layout_of(weights: Mapping[str, Tensor]) -> str:
    """What a checkpoint seems to be, for the error that says it is not what is needed."""
    seen = (what for start, what in LAYOUTS.items() if any(name.startswith(start) for name in weights))
    return next(seen, "something else")


def first_line(error: Exception) -> str:
    """What libraries say at length, in one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".: ")


def last_line(error: Exception) -> str:
    """The cause, where libraries name it last."""
    return next(reversed(str(error).strip().splitlines()), type(error).__name__).strip()[:150]


def not_finite(file: Path, name: str) -> str:
    """What is said of a tensor that holds no numbers."""
    return f"{file} holds NaN or infinity in {name!r}, so that no image would come of it: fetch it again"
