"""Gradient methods on noise, one file a paper."""

from .base import Loss, Objective
from .dno import DNO
from .mira import MIRA
from .reno import ReNO

__all__ = ["DNO", "MIRA", "Loss", "Objective", "ReNO"]
