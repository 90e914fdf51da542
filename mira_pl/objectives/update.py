"""What update rules of noise have in common: torch's protocol of an optimiser."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch


class Update(torch.optim.Optimizer, ABC):
    """An optimiser of one parameter: the noises of a batch, [b, ...], one row a job."""

    @abstractmethod
    def move(self, noise: torch.Tensor, slope: torch.Tensor, options: Mapping[str, Any]) -> None:
        """Change the noise in place, by the gradient of the loss and what the rule was built with."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update; `closure` computes the loss and its gradient."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        group = self.param_groups[0]
        (noise,) = group["params"]
        if len(noise) and noise.grad is not None:  # a process may have no jobs
            self.move(noise, noise.grad, group)
        return loss
