"""The world's Turbo: a small U-Net that draws in one step, without guidance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerAncestralDiscreteScheduler, UNet2DConditionModel

from ..backbones.distilled import TAUGHT
from ..types import Latents
from .students import LAST, StudentTraining
from .unet import build_unet


class TurboTraining(StudentTraining):
    """Learns the velocity at pure noise, from which x_0 follows; the text encoder is the teacher's.

    The U-Net is the world's with narrower deep levels: less than half its parameters.
    """

    def build(self) -> UNet2DConditionModel:
        return build_unet((64, 96, 112))

    def predict(self, noise: Latents, captions: Sequence[str]) -> Latents:
        with torch.no_grad():
            text = self.teacher.embed(captions).tokens.to(noise)
        alpha = self.teacher.alphas_cumprod[LAST]
        x = (1 - alpha).sqrt() * noise  # where Euler's sampler starts
        return alpha.sqrt() * x - (1 - alpha).sqrt() * self.model(x, LAST, text).sample

    def export(self, folder: Path) -> None:
        """What differs from the teacher's folder: U-Net, fp16, and SDXL-Turbo's kind of scheduler."""
        learned: Any = self.ema.module
        learned.half().save_pretrained(folder / "unet")
        scheduler: Any = EulerAncestralDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            timestep_spacing="trailing",
        )
        scheduler.register_to_config(**{TAUGHT: LAST})
        scheduler.save_pretrained(folder / "scheduler")
