"""Annealed importance guidance: the base model draws the layout, its fine-tuned self more and more of the details."""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from jaxtyping import Float
from torch import Tensor, nn

from ..diffusion import Schedule
from ..types import Latents
from .compiled import Compile, compiled
from .lora import fuse_loras

Anneal = float | str | None
"""Share of the tuned model at step i of T: a number, `linear` i / T, `power_P` (i / T)^P, `step_F` 1 from F T on."""

SHAPE = re.compile(r"(?P<shape>power|step)_(?P<number>\d+(\.\d+)?)")


class Annealed(nn.Module):
    """A denoiser that predicts (1 - w_i) base + w_i tuned at step i of the sampler.

    Its intermediate densities are those in between, p_base^(1 - w) p_tuned^w; a constant w is DeRaDiff's. Guidance is
    linear in what is predicted, so that it makes no difference whether it comes before or after. At timesteps that are
    not of the grid w is that of the nearest step.

    Attributes:
        base: as it was published.
        tuned: the same network with other weights.
        shares: w of every step.
        grid: timestep of every step.

    Source: AIG as in NVIDIA's NeMo-Aligner (`annealed_guidance`); there Stable Diffusion's last picture is decoded from
    the tuned model's own x_0, here as for SDXL from the mixed one.
    """

    shares: Tensor
    grid: Tensor

    def __init__(self, base: Any, tuned: Any, anneal: float | str, schedule: Schedule) -> None:
        super().__init__()
        self.base, self.tuned, self.config = base, tuned, tuned.config
        self.register_buffer("shares", shares(anneal, schedule.steps), persistent=False)
        self.register_buffer("grid", torch.tensor(schedule.timesteps, dtype=torch.float32), persistent=False)

    def forward(self, x: Latents, timestep: Tensor, *text: Tensor, **more: Any) -> UNet2DConditionOutput:
        """As the two networks are called, with one timestep a row."""
        step = (self.grid - timestep.float()[:, None]).abs().argmin(dim=1)
        exact = torch.promote_types(x.dtype, torch.float32)  # half precision would round the mixture once more
        base, tuned = (net(x, timestep, *text, **more).sample.to(exact) for net in (self.base, self.tuned))
        return UNet2DConditionOutput(torch.lerp(base, tuned, self.shares[step].to(exact).view(-1, 1, 1, 1)))


def shares(anneal: float | str, steps: int) -> Float[Tensor, " T"]:
    """w of every step, fp32, each in [0, 1].

    Raises:
        ValueError: `anneal` is none of what `Anneal` says.
    """
    progress = torch.arange(steps) / steps
    found = SHAPE.fullmatch(anneal) if isinstance(anneal, str) else None
    if found is not None:
        number = float(found["number"])
        return progress**number if found["shape"] == "power" else (progress >= number).float()
    if anneal == "linear":
        return progress
    if isinstance(anneal, str) or not 0 <= anneal <= 1:
        raise ValueError(f"anneal must be in [0, 1], linear, power_P or step_F, such as power_2: got {anneal!r}")
    return torch.full((steps,), float(anneal))


def with_loras(
    unet: Any,
    encoders: Mapping[str, Any],
    lora: Sequence[str],
    scale: float | Sequence[float],
    anneal: Anneal,
    schedule: Schedule,
    compile: Compile,
) -> Any:
    """The denoiser with its LoRAs, which are added in place, or between the U-Net with and without them.

    Args:
        unet: frozen.
        encoders: the text encoders, by diffusers' names.
        lora: see `mira_pl.backbones.lora.lora_needs`.
        scale: one for all, or one for each.
        anneal: None takes the LoRAs as they are.
        schedule: of the sampler.
        compile: see `compiled`.

    Raises:
        OSError: a file is neither on disk nor can it be fetched.
        ValueError: a LoRA does not fit; or it is to be annealed and there is none, or it also changes the text.
    """
    if anneal is None:
        fuse_loras(lora, scale, {"unet": unet, **encoders})
        return compiled(unet, compile)
    if not lora:
        raise ValueError(f"anneal {anneal!r} goes from the model to the same with a LoRA: name one under lora")
    base = deepcopy(unet)
    changed = fuse_loras(lora, scale, {"unet": unet, **encoders})
    if changed != {"unet"}:
        text = ", ".join(sorted(changed - {"unet"}))
        raise ValueError(f"anneal {anneal!r} needs LoRAs of the U-Net alone, these change {text}: leave anneal out")
    return Annealed(compiled(base, compile), compiled(unet, compile), anneal, schedule).eval()
