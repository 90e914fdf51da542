"""Networks with shapes and without weights, so that a configuration can be built before it is run."""

import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from safetensors import safe_open

META = torch.device("meta")
HOLLOW: ContextVar[bool] = ContextVar("HOLLOW", default=False)


@contextmanager
def hollow() -> Iterator[None]:
    """Within it the loaders of `mira_pl.hub` give networks on the meta device; of weights they read the headers."""
    token = HOLLOW.set(True)
    try:
        yield
    finally:
        HOLLOW.reset(token)


def is_hollow() -> bool:
    """Whether `hollow` is in force."""
    return HOLLOW.get()


def frame() -> AbstractContextManager:
    """Where a network is made whose weights come from a file."""
    return META if is_hollow() else nullcontext()


def untrained(kind: Any, settings: Any) -> Any:
    """A network of a class of diffusers or transformers, by its configuration."""
    with frame():
        return kind.from_config(settings) if ModelMixin in kind.__mro__ else kind(settings)


def shapes(file: Path) -> Any:
    """What a checkpoint holds, with every tensor on the meta device."""
    if file.suffix != ".safetensors":
        return torch.load(file, weights_only=True, map_location=META, mmap=zipfile.is_zipfile(file))
    with safe_open(file, "pt") as header:
        return {name: torch.empty(header.get_slice(name).get_shape(), device=META) for name in header.keys()}  # noqa: SIM118
