"""Weights from a packaged model, a local folder or the hub; every failure as one line that names the file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..assets import packaged

PACKAGED = ("emoji",)


def resolve(model: str) -> str:
    """The folder of a packaged model's name; anything else is a local folder or a hub id and stays as it is."""
    return str(packaged(model)) if model in PACKAGED else model


def load_weights(from_pretrained: Callable[..., Any], model: str, subfolder: str | None, **options: Any) -> Any:
    """One component that has weights, every one of them from the file.

    Args:
        from_pretrained: of the component's class.
        model: packaged name, local folder or hub id.
        subfolder: the component's folder in it; None where the model is this component alone.
        options: for `from_pretrained`.

    Raises:
        FileNotFoundError: see `load_part`.
        ValueError: the file is corrupt, or lacks weights of the model, which the libraries would make up at random.
    """
    options |= {"output_loading_info": True, "use_safetensors": True}  # a pickle could run code
    part, report = load_part(from_pretrained, model, subfolder, **options)
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"the weights in {Path(resolve(model), subfolder or '')} lack {len(missing)} tensors, the first is "
            f"{missing[0]!r}: they are of another model, or incomplete; fetch them again"
        )
    return part


def load_part(from_pretrained: Callable[..., Any], model: str, subfolder: str | None, **options: Any) -> Any:
    """One component of a diffusers model folder.

    Raises:
        FileNotFoundError: the weights are neither on disk nor in the hub's cache.
        ValueError: the files are there but cannot be read.
    """
    source = resolve(model)
    folder = Path(source, subfolder or "")
    if Path(source).is_dir() and not folder.is_dir():  # transformers would make up an empty tokenizer
        raise FileNotFoundError(f"cannot load {subfolder!r} of model {model!r}: there is no folder {folder}")
    try:
        return from_pretrained(source, subfolder=subfolder, **options)
    except (SafetensorError, OSError, ValueError) as error:
        broken = _broken_weights(folder)
        if broken or isinstance(error, SafetensorError):
            raise ValueError(f"corrupt weights in {broken or folder}: delete the file and fetch it again") from error
        first_line = str(error).strip().split("\n")[0]
        raise FileNotFoundError(
            f"cannot load {subfolder!r} of model {model!r}: {first_line} "
            "(give a folder in diffusers layout, a hub id, or 'emoji')"
        ) from error


def _broken_weights(folder: Path) -> Path | None:
    """The first file of weights that cannot be opened; neither transformers nor diffusers reliably say which."""
    for file in sorted(folder.glob("*.safetensors")):
        try:
            safe_open(file, "pt")
        except SafetensorError:
            return file
    return None
