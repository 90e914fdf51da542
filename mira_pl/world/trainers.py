"""Every trainer of the world, under the short name that YAML uses."""

from .aesthetic import AestheticTraining
from .clip import CLIPTraining
from .dit import DiTTraining
from .judge import JudgeTraining
from .preference import PreferenceTraining
from .turbo import TurboTraining
from .unet import UNetTraining
from .vae import VAETraining

__all__ = [
    "AestheticTraining",
    "CLIPTraining",
    "DiTTraining",
    "JudgeTraining",
    "PreferenceTraining",
    "TurboTraining",
    "UNetTraining",
    "VAETraining",
]
