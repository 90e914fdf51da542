"""What images are scored by, each by the short name that YAML uses."""

from .base import BlackBox, Reward, Term, Weighted
from .blip_vqa import BLIPVQA
from .clip import Aesthetic, CLIPScore
from .hpsv2 import HPSv2
from .imagereward import ImageReward
from .pickscore import PickScore
from .pixels import Brightness, Darkness, JPEGSize

__all__ = [
    "BLIPVQA",
    "Aesthetic",
    "BlackBox",
    "Brightness",
    "CLIPScore",
    "Darkness",
    "HPSv2",
    "ImageReward",
    "JPEGSize",
    "PickScore",
    "Reward",
    "Term",
    "Weighted",
]
