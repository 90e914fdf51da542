"""Distributed processes without gradient averaging: every process learns noises of its own."""

from datetime import timedelta
from typing import Any

from lightning.pytorch.strategies import DDPStrategy


class IndependentDDP(DDPStrategy):
    """Lightning's launcher, process group and rank rules, without the wrapper that would average the gradients.

    Args:
        timeout: how long a process waits for the slowest one. Processes meet after every tick, and one that has nothing
            to do waits for a whole one of the others: a round of a search on a large model outlasts Lightning's 30
            minutes. A process that dies does not cost it: the launcher ends the others.
        options: Lightning's.
    """

    def __init__(self, timeout: timedelta | None = timedelta(days=1), **options: Any) -> None:
        super().__init__(timeout=timeout, **options)

    def configure_ddp(self) -> None:
        """No wrapper, no all-reduce, and no broadcast of rank 0's noise at the start."""
