"""The same jobs under several methods, frame by frame: what the numbers look like."""

from collections.abc import Sequence
from textwrap import fill

import numpy as np
import torch
from matplotlib.figure import Figure

from .hacking import Labelled, film


def strips(runs: Sequence[Labelled], keys: Sequence[str]) -> Figure:
    """Filmstrips, start on the left: the methods below each other, prompt after prompt.

    Args:
        runs: runs of the same jobs.
        keys: the jobs to show.

    Raises:
        ValueError: a key is no job of the first run.
    """
    prompts = _prompts(runs[0], keys)
    pictures = [[_strip(labelled, key) for labelled in runs] for key in keys]
    height, width = pictures[0][0].shape[:2]
    rows = len(keys) * len(runs)
    result = Figure(figsize=(8.5, (8.5 - 1.5) * rows * height / width + 0.35 * len(keys)), layout="constrained")
    blocks = result.subfigures(len(keys), 1, squeeze=False)[:, 0]
    for block, key, row in zip(blocks, keys, pictures, strict=True):
        block.suptitle(prompts[key], fontsize=9)
        for axes, labelled, picture in zip(block.subplots(len(runs), squeeze=False)[:, 0], runs, row, strict=True):
            axes.imshow(picture)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_ylabel(labelled.name, rotation=0, ha="right", va="center", fontsize=9)
    return result


def sheet(runs: Sequence[Labelled], keys: Sequence[str]) -> Figure:
    """Results only: a method a row, a prompt a column, and above them what the frozen model drew.

    Args:
        runs: runs of the same jobs.
        keys: the jobs to show.

    Raises:
        ValueError: a key is no job of the first run.
    """
    prompts = _prompts(runs[0], keys)
    rows = [("start", [film(runs[0].run, key)[0] for key in keys])]
    rows += [(labelled.name, [film(labelled.run, key)[-1] for key in keys]) for labelled in runs]
    width = 7.0 / len(keys)
    result = Figure(figsize=(8.5, (width + 0.05) * len(rows) + 0.4), layout="constrained")
    grid = result.subplots(len(rows), len(keys), squeeze=False)
    for line, (name, pictures) in zip(grid, rows, strict=True):
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(picture.permute(1, 2, 0).numpy() / 2 + 0.5)
            axes.set_xticks([])
            axes.set_yticks([])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    for axes, key in zip(grid[0], keys, strict=True):
        axes.set_title(fill(prompts[key], 16), fontsize=7)
    return result


def _prompts(first: Labelled, keys: Sequence[str]) -> dict[str, str]:
    prompts = {record["key"]: record["prompt"] for record in first.run.records()}
    if unknown := [key for key in keys if key not in prompts]:
        raise ValueError(f"{unknown[0]!r} is no job of {first.run.path}: its keys begin with {list(prompts)[:2]}")
    return prompts


def _strip(labelled: Labelled, key: str) -> np.ndarray:
    frames = film(labelled.run, key) / 2 + 0.5
    return torch.cat(list(frames), dim=2).permute(1, 2, 0).numpy()
