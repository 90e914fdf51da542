"""Steepest ascent on noise: steps of one length along the gradient itself, where Adam gives every value its own."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool

from ..objectives.update import Update


class Steepest(Update):
    """z <- (1 - lr decay) z - lr sqrt(d) g / |g|, a job; d is how many of its values are learned.

    So `lr` is the root mean square step of a value: the noise changes as much as under Adam with the same `lr`. Along g
    a change of that length has the most reward. Adam goes about along sign(g), which moves every value alike, those too
    that hardly matter to the reward. A job without a gradient stays where it is.

    Args:
        noise: [b, maps, ...], one row a job.
        moves: [maps], which maps are learned.
        lr: greater than 0.
        weight_decay: at least 0.
    """

    def __init__(
        self, noise: torch.nn.Parameter, moves: Bool[torch.Tensor, " maps"], lr: float, weight_decay: float
    ) -> None:
        super().__init__([noise], {"lr": lr, "weight_decay": weight_decay})
        self.length = (int(moves.sum()) * noise.shape[2:].numel()) ** 0.5

    def move(self, noise: torch.Tensor, slope: torch.Tensor, options: Mapping[str, Any]) -> None:
        lr, flat = options["lr"], slope.flatten(1)
        direction = torch.nn.functional.normalize(flat, dim=1, eps=torch.finfo(flat.dtype).tiny).view_as(noise)
        noise.mul_(1 - lr * options["weight_decay"]).sub_(direction, alpha=lr * self.length)
