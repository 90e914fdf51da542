"""Distributed processes without gradient averaging: every process learns noises of its own."""

from lightning.pytorch.strategies import DDPStrategy


class IndependentDDP(DDPStrategy):
    """Lightning's launcher, process group and rank rules, without the wrapper that would average the gradients."""

    def configure_ddp(self) -> None:
        """No wrapper, no all-reduce, and no broadcast of rank 0's noise at the start."""
