"""Gradient methods on noise, one file a paper."""

from .base import Loss, Objective
from .dno import DNO
from .drift_budget import DriftBudget
from .estimated import EstimatedGradient
from .guarded import Guarded
from .initno import InitNO
from .langevin import Langevin
from .mira import MIRA
from .mira_dpo import MIRADPO
from .reno import ReNO

__all__ = [
    "DNO",
    "MIRA",
    "MIRADPO",
    "DriftBudget",
    "EstimatedGradient",
    "Guarded",
    "InitNO",
    "Langevin",
    "Loss",
    "Objective",
    "ReNO",
]
