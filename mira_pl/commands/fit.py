"""`python -m mira_pl fit --config configs/emoji_darkness.yaml`: optimise the noises of every prompt-seed."""

from ..fit.cli import fit as main

__all__ = ["main"]
