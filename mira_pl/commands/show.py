"""`python -m mira_pl show runs/x`: a run, or several compared, as one HTML page that needs nothing else."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..experiments.page import Picture, ShownRun, page
from ..fit import PromptData
from ..runs import RunFolder, write_atomic
from .arguments import Arguments

LARGEST = {"base": 512, "": 512, "film": 1536}  # longer side of every kind of picture on the page
KEPT_HEIGHT = 160  # pictures up to this height are kept to the bit, higher ones become WebP


def main(argv: Sequence[str]) -> None:
    """Write the page and print where it is.

    Raises:
        FileNotFoundError: a folder does not exist or is no run.
        ValueError: a run has no finished job.
    """
    parser = Arguments(prog="python -m mira_pl show", description="Shows runs on one HTML page.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder; several are compared")
    parser.add_argument(
        "--out", type=Path, help="the page; default: page.html in the run folder, compare.html in the first of several"
    )
    arguments = parser.parse_args(list(argv))
    folders = [RunFolder(path) for path in arguments.runs]
    default = folders[0].page_path if len(folders) == 1 else folders[0].path / "compare.html"
    out = arguments.out or default
    write_atomic(out, page([load(folder, name) for folder, name in zip(folders, names(folders), strict=True)]).encode())
    print(out)


def names(folders: Sequence[RunFolder]) -> list[str]:
    """Paths as given; of compared runs only the last part, where that tells them apart."""
    last = [folder.path.resolve().name for folder in folders]
    return last if len(folders) > 1 and len(set(last)) == len(last) else [str(folder.path) for folder in folders]


def load(folder: RunFolder, name: str) -> ShownRun:
    """Everything of a run that the page shows."""
    if not (folder.path / "config.yaml").exists():
        raise FileNotFoundError(f"{folder.path} is no run folder (it has no config.yaml): give one that `fit` wrote")
    records = folder.records()
    if not records:
        raise ValueError(f"{folder.path} has no finished job yet: nothing to show")
    config = folder.config()
    pictures = {record["key"]: load_pictures(folder, record["key"]) for record in records}
    return ShownRun(name, config, records, folder.trace(), pictures, planned_jobs(config))


def load_pictures(folder: RunFolder, key: str) -> dict[str, Picture]:
    """Those of a job that exist, by kind."""
    paths = {kind: folder.image_path(key, kind) for kind in LARGEST}
    return {kind: embed(path, LARGEST[kind]) for kind, path in paths.items() if path.exists()}


def embed(path: Path, largest: int) -> Picture:
    """A picture as data URI: low ones byte for byte, higher ones shrunk to `largest` and compressed."""
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        size, kind = image.size, "png"
        if image.height > KEPT_HEIGHT:
            image.thumbnail((largest, largest))
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", quality=88)
            size, kind, content = image.size, "webp", buffer.getvalue()
    return Picture(f"data:image/{kind};base64,{base64.b64encode(content).decode()}", *size)


def planned_jobs(config: Mapping[str, Any]) -> int | None:
    """How many jobs the configuration asks for; None where it does not say."""
    data = config.get("data") or {}
    if not data.get("prompts") or not data.get("seeds"):
        return None
    try:
        return len(PromptData.of(data).jobs)
    except FileNotFoundError:  # a file of prompts that has gone since
        return None
