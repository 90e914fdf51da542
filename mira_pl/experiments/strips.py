"""The same jobs under several methods, frame by frame: what the numbers look like."""

from collections.abc import Sequence

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
    prompts = {record["key"]: record["prompt"] for record in runs[0].run.records()}
    if unknown := [key for key in keys if key not in prompts]:
        raise ValueError(f"{unknown[0]!r} is no job of {runs[0].run.path}: its keys begin with {list(prompts)[:2]}")
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


def _strip(labelled: Labelled, key: str) -> np.ndarray:
    frames = film(labelled.run, key) / 2 + 0.5
    return torch.cat(list(frames), dim=2).permute(1, 2, 0).numpy()
