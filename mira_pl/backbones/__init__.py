"""Frozen models behind one protocol."""

from .analytic import FlowMixture, MixtureBackbone
from .base import Backbone, Condition, Text
from .flux import Flux
from .pixart import PixArt
from .sana import Sana
from .sd3 import StableDiffusion3
from .sdxl import SDXL
from .stable_diffusion import StableDiffusion

__all__ = [
    "SDXL",
    "Backbone",
    "Condition",
    "FlowMixture",
    "Flux",
    "MixtureBackbone",
    "PixArt",
    "Sana",
    "StableDiffusion",
    "StableDiffusion3",
    "Text",
]
