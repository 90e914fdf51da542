"""What the package ships: the glyphs and the weights of the emoji world's models."""

from importlib.resources import files
from pathlib import Path


def packaged(name: str) -> Path:
    """The packaged file or folder `name`, such as "clip" or "judge/model.safetensors"."""
    return Path(str(files(__name__))) / name
