"""Every trainer of the world, under the short name that YAML uses."""

from .aesthetic import AestheticTraining
from .clip import CLIPTraining
from .judge import JudgeTraining
from .preference import PreferenceTraining
from .unet import UNetTraining
from .vae import VAETraining

__all__ = ["AestheticTraining", "CLIPTraining", "JudgeTraining", "PreferenceTraining", "UNetTraining", "VAETraining"]
