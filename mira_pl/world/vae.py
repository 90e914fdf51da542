"""The world's VAE: 64 x 64 pixels to 8 x 16 x 16 latents, diffusers' AutoencoderKL."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from .render import Renderer
from .scenes import generator, sample_scenes
from .training import WorldTraining


def build_vae() -> AutoencoderKL:
    """Three levels, so a factor of 4 between pixels and latents."""
    config: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "block_out_channels": (24, 48, 96),
        "layers_per_block": 1,
        "latent_channels": 8,
        "norm_num_groups": 8,
        "sample_size": 64,
    }
    return AutoencoderKL(**config)


def opponents(images: Tensor) -> Tensor:
    """Red against blue, and green against both."""
    red, green, blue = images.unbind(dim=1)
    return torch.stack([red - blue, green - (red + blue) / 2], dim=1)


def edges(images: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical differences of neighbouring pixels."""
    return images[..., 1:] - images[..., :-1], images[..., 1:, :] - images[..., :-1, :]


class VAETraining(WorldTraining):
    """Squared error in pixels and in the colours of 4 x 4 means, L1 in edges (legs are a few pixels wide), a small KL.

    Args:
        kl_weight: weight of the KL to N(0, I), summed over latent dimensions and divided by pixels.
        colour_weight: weight of the squared error of opponent colours; without it one colour axis is not learned.
        edge_weight: weight of the L1 of neighbouring differences.
    """

    def __init__(
        self,
        out: Path = Path("pretrain_runs/vae/model"),
        steps: int = 4200,
        batch_size: int = 8,
        lr: float = 1e-3,
        seed: int = 1,
        save_every: int = 500,
        kl_weight: float = 1e-4,
        colour_weight: float = 4.0,
        edge_weight: float = 0.3,
    ) -> None:
        super().__init__(out, steps, batch_size, lr, seed, save_every)
        self.kl_weight, self.colour_weight, self.edge_weight = kl_weight, colour_weight, edge_weight
        self.vae: Any = build_vae()
        self.render = Renderer()

    def learned(self) -> nn.Module:
        return self.vae

    def training_step(self, batch: int, index: int) -> Tensor:
        images = self.render(sample_scenes(self.batch_size, generator(self.seed, self.global_step))).to(self.device)
        posterior = self.vae.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator(self.seed + 1, self.global_step)).to(self.device)
        decoded = self.vae.decode(posterior.mean + posterior.std * noise).sample
        decoded = decoded.float()
        pixel = F.mse_loss(decoded, images)
        colour = F.mse_loss(opponents(F.avg_pool2d(decoded, 4)), opponents(F.avg_pool2d(images, 4)))
        edge = sum(F.l1_loss(a, b) for a, b in zip(edges(decoded), edges(images), strict=True))
        kl = posterior.kl().mean() / images[0].numel()
        self.report(pixel=pixel, colour=colour, kl=kl, psnr=10 * torch.log10(4 / F.mse_loss(decoded, images)))
        return pixel + self.colour_weight * colour + self.edge_weight * edge + self.kl_weight * kl

    @torch.no_grad()
    def export(self, folder: Path) -> None:
        """Measures the latents' standard deviation on 512 pictures: the scaling factor that makes it 1."""
        images = self.render(sample_scenes(512, generator(self.seed + 2, 0))).to(self.device)
        latents = torch.cat([self.vae.encode(part).latent_dist.mean for part in images.split(64)])
        self.vae.register_to_config(scaling_factor=1 / latents.std().item())
        self.vae.half().save_pretrained(folder)
