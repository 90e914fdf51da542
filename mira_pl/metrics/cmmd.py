"""CMMD: maximum mean discrepancy of CLIP embeddings (Jayasumana et al. 2024)."""

from jaxtyping import Float
from torch import Tensor

SIGMA = 10.0
SCALE = 1000.0


def cmmd(left: Float[Tensor, "m d"], right: Float[Tensor, "n d"], unbiased: bool = False) -> float:
    """1000 times the squared MMD under a Gaussian kernel of width 10, at least 0 in its biased, official form.

    The biased form has a floor of about 10 (1 - c) (1/m + 1/n), c the mean cosine within a set, so only sets of equal
    sizes compare. The unbiased form leaves the diagonals out and may be negative.

    Args:
        left: image embeddings of length 1.
        right: the same of the other set.
        unbiased: leave out each embedding's kernel with itself.
    """
    left, right = left.double(), right.double()
    within = _mean_within(left, unbiased) + _mean_within(right, unbiased)
    return SCALE * (within - 2 * _kernel(left, right).mean()).item()


def _mean_within(embeddings: Tensor, unbiased: bool) -> Tensor:
    kernel, count = _kernel(embeddings, embeddings), len(embeddings)
    return (kernel.sum() - count) / (count * (count - 1)) if unbiased else kernel.mean()


def _kernel(left: Tensor, right: Tensor) -> Tensor:
    squared = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2 * left @ right.T
    return (-squared.clamp(min=0) / (2 * SIGMA**2)).exp()
