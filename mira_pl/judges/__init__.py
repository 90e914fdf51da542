"""Who decides which picture is right, or better."""

from .truth import TruthJudge, parse

__all__ = ["TruthJudge", "parse"]
