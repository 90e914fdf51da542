"""Weights of particles, and which of them go on: everything in logarithms, every random number an argument."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..noise import stream
from ..types import Job, PerJob

Scheme = Literal["multinomial", "systematic", "ssp"]


def normalised(log_weights: Float[Tensor, "k b"]) -> Float[Tensor, "k b"]:
    """Weights that sum to 1 over the particles, fp64; what is no number weighs nothing, and nothing is all alike."""
    safe = log_weights.double().nan_to_num(nan=-torch.inf, posinf=1e300, neginf=-torch.inf)
    return torch.softmax(torch.where(safe.isfinite().any(dim=0), safe, 0.0), dim=0)


def effective(weights: Float[Tensor, "k b"]) -> PerJob:
    """Effective number of particles, 1 / sum of squares, in 1..k."""
    return 1 / weights.square().sum(dim=0)


def resample(
    weights: Float[Tensor, "k b"], which: Bool[Tensor, " b"], scheme: Scheme, jobs: Sequence[Job], *path: str | int
) -> Int[Tensor, "k b"]:
    """The ancestor of every particle; those of jobs that are not resampled are themselves.

    Args:
        weights: summing to 1 over the particles.
        which: jobs that are resampled.
        scheme: see `ancestors`.
        jobs: of the columns; each has random numbers of its own.
        path: of the stream of random numbers.
    """
    count, columns = len(weights), []
    for column, wanted, job in zip(weights.T.cpu(), which.tolist(), jobs, strict=True):
        uniforms = torch.rand(count, generator=stream(job.seed, "resample", *path), dtype=torch.float64)
        columns.append(ancestors(column, uniforms, scheme) if wanted else torch.arange(count))
    return torch.stack(columns, dim=1).to(weights.device)


def ancestors(weights: Float[Tensor, " k"], uniforms: Float[Tensor, " k"], scheme: Scheme) -> Int[Tensor, " k"]:
    """k ancestors, each particle k times its weight in expectation; `ssp` rounds that number up or down, no more."""
    if scheme == "ssp":
        return torch.arange(len(weights)).repeat_interleave(ssp(weights, uniforms))
    places = uniforms if scheme == "multinomial" else (torch.arange(len(weights)) + uniforms[0]) / len(weights)
    return torch.searchsorted(weights.cumsum(dim=0), places).clamp(max=len(weights) - 1)


def ssp(weights: Float[Tensor, " k"], uniforms: Float[Tensor, " k"]) -> Int[Tensor, " k"]:
    """Children of every particle by the Srinivasan sampling process (Gerber, Chopin and Whiteley 2019, alg. 1).

    The fractions of k times the weights meet in pairs; each meeting settles one of them to a whole number.
    """
    expected = weights * len(weights)
    children = expected.floor().long().tolist()
    rest = (expected - expected.floor()).tolist()
    open_ = 0
    for other, u in zip(range(1, len(rest)), uniforms.tolist(), strict=False):
        total = rest[open_] + rest[other]
        if total < 1:
            open_ = other if u * total < rest[other] else open_
            rest[open_] = total
        else:
            whole, open_ = (open_, other) if u * (2 - total) < 1 - rest[other] else (other, open_)
            children[whole] += 1
            rest[open_] = total - 1
    children[open_] += len(children) - sum(children)  # the last fraction is 0 or 1 up to rounding
    return torch.tensor(children)
