"""What images are scored by, each by the short name that YAML uses."""

from .base import Reward, Term, Weighted
from .clip import Aesthetic, CLIPScore
from .pixels import Brightness, Darkness, JPEGSize

__all__ = ["Aesthetic", "Brightness", "CLIPScore", "Darkness", "JPEGSize", "Reward", "Term", "Weighted"]
