"""The world's text-to-image model: a UNet2DConditionModel on the world's latents, conditioned by the world's CLIP."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from ..backbones.analytic import sd_scheduler
from ..runs import write_atomic
from .render import Renderer
from .scenes import generator, sample_scenes
from .tokens import MAX_TOKENS
from .training import AveragedTraining

CHUNK = 500  # scenes encoded at once; the cache is a whole number of chunks


def build_unet(channels: tuple[int, int, int] = (64, 128, 192)) -> UNet2DConditionModel:
    """Three levels of so many channels, cross-attention at 8 x 8 and 4 x 4: 11.0 M parameters by default."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        block_out_channels=channels,
        layers_per_block=1,
        cross_attention_dim=192,
        attention_head_dim=4,
        norm_num_groups=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )


def build_text_to_image(clip: Path) -> nn.ModuleDict:
    """An untrained U-Net and the text tower of a CLIP folder."""
    text: Any = CLIPTextModel.from_pretrained(clip, dtype=torch.float32)
    return nn.ModuleDict({"unet": build_unet(), "text": text.train()})


def load_text_to_image(folder: Path) -> nn.ModuleDict:
    """The U-Net and the text tower of a pipeline folder, in fp32, to be trained on."""
    unet: Any = UNet2DConditionModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False)
    text: Any = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    return nn.ModuleDict({"unet": unet.float().train(), "text": text.train()})


class UNetTraining(AveragedTraining):
    """v-prediction on cached latents; an exponential moving average of the weights is what gets exported.

    v = sqrt(abar) eps - sqrt(1 - abar) x0 (Salimans and Ho 2022): where noise prevails it is the picture that is
    predicted. A network this small that predicts the noise itself spends its training on copying its input.

    The text tower starts as CLIP's and is trained on: CLIP's own holds colours far apart and animals close together.

    Args:
        vae: folder of the world's VAE.
        clip: folder of the world's CLIP.
        pictures: distinct pictures, rendered and encoded once, then drawn from at random.
        unconditional: share of empty captions, for guidance.
        ema_decay: decay of the weight average a step.
        spread: share of the widest range of places, sizes and tilts: the narrower, the less there is to learn.
        start: pipeline folder whose U-Net and text tower to go on from; None starts with CLIP's text tower alone.
    """

    def __init__(
        self,
        vae: Path = Path("pretrain_runs/vae/model"),
        clip: Path = Path("pretrain_runs/clip/model"),
        out: Path = Path("pretrain_runs/unet/model"),
        steps: int = 9200,
        batch_size: int = 32,
        lr: float = 1e-3,
        seed: int = 3,
        save_every: int = 250,
        pictures: int = 40_000,
        unconditional: float = 0.1,
        ema_decay: float = 0.999,
        spread: float = 1.0,
        start: Path | None = None,
    ) -> None:
        super().__init__(out, steps, batch_size, lr, seed, save_every)
        self.pictures, self.unconditional, self.spread = pictures, unconditional, spread
        self.average(build_text_to_image(clip) if start is None else load_text_to_image(start), ema_decay)
        # A tuple keeps the frozen VAE out of the module registry: checkpoints hold only what is learned.
        self.frozen = (AutoencoderKL.from_pretrained(vae, low_cpu_mem_usage=False).eval().requires_grad_(False),)
        self.tokenizer = CLIPTokenizer.from_pretrained(clip)
        self.alphas_cumprod = sd_scheduler().alphas_cumprod

    def on_fit_start(self) -> None:
        self.latents, self.captions = self._latents_and_captions(self.out.parent / "latents")

    def training_step(self, batch: int, index: int) -> Tensor:
        random = generator(self.seed, self.global_step * self.trainer.world_size + self.global_rank)
        chosen = torch.randint(len(self.latents), (self.batch_size,), generator=random)
        empty = torch.rand(self.batch_size, generator=random) < self.unconditional
        captions = ["" if e else self.captions[i] for i, e in zip(chosen.tolist(), empty.tolist(), strict=True)]
        clean = self.latents[chosen].float()
        noise = torch.randn(clean.shape, generator=random)
        level = torch.randint(1000, (self.batch_size,), generator=random)
        alpha = self.alphas_cumprod[level].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        condition = self.model["text"](self._tokens(captions)).last_hidden_state
        predicted = self.model["unet"](noisy.to(self.device), level.to(self.device), condition).sample
        loss = F.mse_loss(predicted.float(), velocity.to(self.device))
        self.report(loss=loss)
        return loss

    def export(self, folder: Path) -> None:
        """A whole Stable Diffusion 1.x pipeline folder, fp16."""
        learned: Any = self.ema.module
        parts: dict[str, Any] = {
            "vae": self.frozen[0].half(),
            "text_encoder": learned["text"].half(),
            "tokenizer": self.tokenizer,
            "unet": learned["unet"].half(),
            "scheduler": sd_scheduler("v_prediction"),
            "safety_checker": None,
            "feature_extractor": None,
        }
        StableDiffusionPipeline(**parts, requires_safety_checker=False).save_pretrained(folder)

    def _tokens(self, captions: list[str]) -> Tensor:
        encoded = self.tokenizer(
            captions, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        return encoded.input_ids.to(self.device)

    @torch.no_grad()
    def _latents_and_captions(self, cache: Path) -> tuple[Tensor, list[str]]:
        """Each process renders and encodes its share of the chunks that are not yet on disk."""
        cache.mkdir(parents=True, exist_ok=True)
        files = [cache / f"{chunk:04d}.safetensors" for chunk in range(self.pictures // CHUNK)]
        streams = [generator(self.seed + 1000, chunk) for chunk in range(len(files))]
        scenes = [sample_scenes(CHUNK, random, spread=self.spread) for random in streams]
        render, vae = Renderer(), nn.Module.to(self.frozen[0], self.device)
        for chunk in range(self.global_rank, len(files), self.trainer.world_size):
            if not files[chunk].exists():
                latents = self._encode(vae, render(scenes[chunk]))
                write_atomic(files[chunk], save({"latents": latents}))
        self.trainer.strategy.barrier()
        captions = [caption for chunk in scenes for caption in chunk.captions]
        return torch.cat([load_file(file)["latents"] for file in files]), captions

    def _encode(self, vae: Any, images: Tensor) -> Tensor:
        means = [vae.encode(part.to(self.device)).latent_dist.mean for part in images.split(100)]
        return (torch.cat(means) * vae.config.scaling_factor).half().cpu().contiguous()
