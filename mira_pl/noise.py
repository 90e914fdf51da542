"""The noise a job starts from, drawn on the CPU from its seed alone."""

from collections.abc import Sequence

import torch

from .types import Job, Noise


def draw(jobs: Sequence[Job], shape: Sequence[int]) -> Noise:
    """Standard normal noise [b, n, c, h, w], fp32, for `shape` = (n, c, h, w).

    One CPU generator a job, so an image depends on neither batch, device nor rank. x_T is drawn first and the steps
    follow in sampling order: the draws of a diffusers pipeline that is given the same generator.
    """
    return torch.stack([_draw_one(job.seed, shape) for job in jobs])


def _draw_one(seed: int, shape: Sequence[int]) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randn(*shape[1:], generator=random) for _ in range(shape[0])]).flip(0)
