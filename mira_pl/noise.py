"""The noise a job starts from, drawn on the CPU from its seed alone."""

import hashlib
from collections.abc import Sequence

import torch

from .types import Job, Noise


def draw(jobs: Sequence[Job], shape: Sequence[int]) -> Noise:
    """Standard normal noise [b, n, c, h, w], fp32, for `shape` = (n, c, h, w).

    One CPU generator a job, so an image depends on neither batch, device nor rank. x_T is drawn first and the steps
    follow in sampling order: the draws of a diffusers pipeline that is given the same generator.
    """
    return torch.stack([_draw_one(torch.Generator().manual_seed(job.seed), shape) for job in jobs])


def redraw(jobs: Sequence[Job], shape: Sequence[int], *path: str | int) -> Noise:
    """Further noise of the same kind, from the streams of `path`."""
    return torch.stack([_draw_one(stream(job.seed, *path), shape) for job in jobs])


def stream(seed: int, *path: str | int) -> torch.Generator:
    """A CPU generator of its own for every seed and path, such as ("direction", tick, query).

    What it draws hangs on nothing else: neither on the batch, nor on what was drawn before, so a run can be resumed.
    """
    digest = hashlib.sha256(repr((seed, *path)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))


def _draw_one(random: torch.Generator, shape: Sequence[int]) -> torch.Tensor:
    return torch.stack([torch.randn(*shape[1:], generator=random) for _ in range(shape[0])]).flip(0)
