"""The layouts that models are published in, as needs."""

import re
from pathlib import Path

from ..assets import packaged
from .need import EMOJI, Need, is_weights

HUB_FILE = re.compile(r"(\w[\w.-]*/[\w.-]+)/(?:(.+)/)?([^/]+)")
TOKENIZER_OPTIONS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def source_of(model: str, folder: str) -> str:
    """The packaged folder for "emoji"; anything else is a local path or a hub id and stays as it is."""
    return str(packaged(folder)) if model == EMOJI else model


def pipeline(model: str, *classes: str) -> Need:
    """What a diffusers folder says it is."""
    return Need(model, "", (("model_index.json",),), classes=classes)


def scheduler(model: str) -> Need:
    """A diffusers scheduler."""
    return Need(model, "scheduler", (("scheduler_config.json",),))


def diffusers_weights(model: str, folder: str, *classes: str) -> Need:
    """A component of diffusers with weights; they may be in shards."""
    return _weights(model, folder, "diffusion_pytorch_model", classes)


def transformers_weights(model: str, folder: str = "", *classes: str, optional: tuple[str, ...] = ()) -> Need:
    """A model of transformers; its weights may be in shards."""
    return _weights(model, folder, "model", classes, optional)


def tokenizer(model: str, folder: str, words: str) -> Need:
    """A tokenizer of transformers: the file of the tokenizers library, or else the original `words`."""
    return Need(model, folder, (("tokenizer.json", words),), TOKENIZER_OPTIONS)


def checkpoint(model: str, name: str, optional: tuple[str, ...] = ()) -> Need:
    """One file of weights, and what is read beside it.

    Args:
        model: the file itself, owner/repository/file of the hub, or a folder or repository that holds `name`.
        name: of the file; where there is none, model.safetensors is taken.
        optional: files beside it that are read where they are there.

    Raises:
        FileNotFoundError: `model` names a file that is not there.
    """
    path = Path(model)
    if path.is_file():
        return Need(str(path.parent), "", ((path.name,),), optional)
    if is_weights(model):
        on_hub = HUB_FILE.fullmatch(model)
        if on_hub is None or Path(path.parts[0]).exists():
            raise FileNotFoundError(
                f"there is no file {path}: give a checkpoint, a folder that holds {name}, or a hub id"
            )
        repository, folder, file = on_hub.groups()
        return Need(repository, folder or "", ((file,),), optional)
    return Need(model, "", (tuple(dict.fromkeys((name, "model.safetensors"))),), optional)


def _weights(model: str, folder: str, stem: str, classes: tuple[str, ...], optional: tuple[str, ...] = ()) -> Need:
    choices = (("config.json",), (f"{stem}.safetensors", f"{stem}.safetensors.index.json"))
    return Need(model, folder, choices, optional, classes)
