"""The terms of a sum that look at the same pictures through the same CLIP share its embedding."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

Embedded = dict[tuple[int, int, bool], tuple[Tensor, Tensor]]
SHARED: ContextVar[Embedded | None] = ContextVar("SHARED", default=None)
"""Pictures and their embeddings, by CLIP, pictures and whether gradients were kept; None outside of `sharing`."""


@contextmanager
def sharing() -> Iterator[None]:
    """Within it `once` computes nothing twice; what it keeps goes at the end of the outermost `sharing`."""
    outer = SHARED.get()
    token = SHARED.set({} if outer is None else outer)
    try:
        yield
    finally:
        SHARED.reset(token)


def once(clip: object, images: Tensor, embed: Callable[[Tensor], Tensor]) -> Tensor:
    """`embed(images)`, computed once for this CLIP and this very tensor within `sharing`, anew everywhere else."""
    shared = SHARED.get()
    if shared is None:
        return embed(images)
    key = (id(clip), id(images), torch.is_grad_enabled())  # a black box among the terms keeps no gradient
    if key not in shared:
        shared[key] = (images, embed(images))  # the pictures too: an id is theirs alone while they live
    return shared[key][1]
