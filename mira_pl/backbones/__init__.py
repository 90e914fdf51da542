"""Frozen models behind one protocol."""

from .analytic import MixtureBackbone
from .base import Backbone, Condition
from .stable_diffusion import StableDiffusion

__all__ = ["Backbone", "Condition", "MixtureBackbone", "StableDiffusion"]
