"""The world's Turbo: a small U-Net that draws in one step, without guidance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerAncestralDiscreteScheduler, UNet2DConditionModel

from ..types import Latents
from .students import LAST, StudentTraining


def build_turbo_unet() -> UNet2DConditionModel:
    """The world's U-Net with narrower deep levels: half its parameters."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        block_out_channels=(64, 96, 112),
        layers_per_block=1,
        cross_attention_dim=192,
        attention_head_dim=4,
        norm_num_groups=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )


class TurboTraining(StudentTraining):
    """Learns the velocity at pure noise, from which x_0 follows; the text encoder is the teacher's.

    Args: see `StudentTraining`.
    """

    def __init__(
        self,
        out: Path = Path("pretrain_runs/emoji_turbo/model"),
        steps: int = 4000,
        batch_size: int = 32,
        lr: float = 1e-3,
        seed: int = 8,
        save_every: int = 250,
        teacher: str = "emoji",
        cache: Path = Path("pretrain_runs/pairs"),
        pairs: int = 16_000,
        teacher_steps: int = 12,
        guidance: float = 5.0,
        ema_decay: float = 0.999,
    ) -> None:
        super().__init__(
            out, steps, batch_size, lr, seed, save_every, teacher, cache, pairs, teacher_steps, guidance, ema_decay
        )

    def build(self) -> UNet2DConditionModel:
        return build_turbo_unet()

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
        scheduler.save_pretrained(folder / "scheduler")
