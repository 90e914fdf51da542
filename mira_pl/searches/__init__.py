"""Searches: gradient-free or guided samplers, one file a paper."""

from .base import Found, Search
from .best_of_n import BestOfN
from .code import CoDe
from .das import DAS
from .dps import DPS
from .dymo import DyMO
from .fk import FK
from .mira_fk import MIRAFK

__all__ = ["DAS", "DPS", "FK", "MIRAFK", "BestOfN", "CoDe", "DyMO", "Found", "Search"]
