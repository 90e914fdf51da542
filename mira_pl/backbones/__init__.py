"""Frozen models behind one protocol."""

from .analytic import MixtureBackbone
from .base import Backbone, Condition, Text
from .pixart import PixArt
from .sdxl import SDXL
from .stable_diffusion import StableDiffusion

__all__ = ["SDXL", "Backbone", "Condition", "MixtureBackbone", "PixArt", "StableDiffusion", "Text"]
