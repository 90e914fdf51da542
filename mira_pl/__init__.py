"""Inference-time alignment of text-to-image diffusion models without reward hacking."""

from .align import Alignment, align
from .backbones import Backbone, StableDiffusion
from .noise import draw
from .objectives import DNO, MIRA, Objective
from .problem import Outcome, Problem
from .rewards import Aesthetic, Brightness, CLIPScore, Darkness, JPEGSize, Reward, Weighted
from .trajectory import Engine, sample
from .types import Job

__all__ = [
    "DNO",
    "MIRA",
    "Aesthetic",
    "Alignment",
    "Backbone",
    "Brightness",
    "CLIPScore",
    "Darkness",
    "Engine",
    "JPEGSize",
    "Job",
    "Objective",
    "Outcome",
    "Problem",
    "Reward",
    "StableDiffusion",
    "Weighted",
    "align",
    "draw",
    "sample",
]
