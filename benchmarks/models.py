"""Real backbones and rewards with random weights: what a file would give them is made from a seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn
from transformers import BertTokenizer, CLIPModel, CLIPTokenizer, T5Tokenizer

from mira_pl.backbones import SDXL, PixArt, StableDiffusion
from mira_pl.backbones.analytic import sd_scheduler
from mira_pl.backbones.base import Condition, Text
from mira_pl.backbones.compiled import Compile, compiled, laid_out
from mira_pl.backbones.latent import DTypeName, LatentDiffusion, checkpointed, frozen
from mira_pl.backbones.pixart import LONGEST
from mira_pl.rewards import Aesthetic, CLIPScore, HPSv2, ImageReward, PickScore, Reward, Term, Weighted
from mira_pl.rewards.clip import AestheticHead
from mira_pl.rewards.towers import ClipTowers
from mira_pl.schedules import make_schedule, one_step
from mira_pl.world.tokens import build_tokenizer

from .architectures import Size, clip_h, clip_l, imagereward, pixart, t5, text_g, text_l, unet, unet_xl, vae

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CLIP_TOKENS = 77
PREDICTED = 0.3
"""Size of the predicted noise, whose own is 1. A random U-Net does not follow x as a trained one does: the smaller its
share in a step, the closer the chain stays to a linear one, which neither dies nor explodes."""


@dataclass(frozen=True)
class Weights:
    """How networks come by their weights.

    Attributes:
        size: of the architectures.
        device: `meta` counts and computes nothing.
        dtype: of denoiser, VAE and text encoders; rewards stay in float32, as the package loads them.
        compile: of the denoiser.
        channels_last: of a U-Net.
    """

    size: Size
    device: torch.device
    dtype: DTypeName = "bfloat16"
    compile: Compile = "none"
    channels_last: bool = False

    def make(self, build: Callable[[Size], nn.Module], dtype: DTypeName | None = None) -> nn.Module:
        """A frozen network at its own initialisation, from one seed."""
        cards = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(cards), torch.device(self.device):
            torch.manual_seed(0)
            network = build(self.size)
        return frozen(nn.Module.to(network, getattr(torch, dtype or self.dtype)))  # diffusers' own `to` warns in vain


class RandomStableDiffusion(StableDiffusion):
    """Stable Diffusion 1.5."""

    def __init__(self, weights: Weights, steps: int, guidance: float) -> None:
        scheduler = sd_scheduler()
        schedule = make_schedule(dict(scheduler.config), "ddim", steps)
        LatentDiffusion.__init__(self, "random", schedule, guidance, "epsilon", scheduler.alphas_cumprod, weights.dtype)
        self.tokenizer, self.text = clip_words(), weights.make(text_l)
        self.encoders = (self.text,)
        self.denoiser = laid_out(weights.make(unet), weights.channels_last)
        self.vae = checkpointed(weights.make(vae), True)
        settle(self, self.denoiser.conv_out, weights)


class RandomSDXL(SDXL):
    """SDXL, or SDXL-Turbo."""

    def __init__(self, weights: Weights, steps: int, guidance: float, turbo: bool = False) -> None:
        scheduler = sd_scheduler()
        schedule = make_schedule(dict(scheduler.config), "euler_ancestral" if turbo else "ddim", steps)
        LatentDiffusion.__init__(self, "random", schedule, guidance, "epsilon", scheduler.alphas_cumprod, weights.dtype)
        self.tokenizers = (clip_words(), clip_words())
        self.encoders = (weights.make(text_l), weights.make(text_g))
        self.denoiser = laid_out(weights.make(partial(unet_xl, side=64 if turbo else 128)), weights.channels_last)
        self.vae, self.zero_empty = checkpointed(weights.make(vae), True), False  # zeros could be quicker
        self.pixels = self.denoiser.config.sample_size * 8
        settle(self, self.denoiser.conv_out, weights)


class RandomPixArt(PixArt):
    """The one-step student of PixArt-alpha."""

    def __init__(self, weights: Weights, steps: int, guidance: float) -> None:
        scheduler = DDIMScheduler()
        alphas, config = scheduler.alphas_cumprod, dict(scheduler.config)
        schedule = one_step(alphas, 400) if steps == 1 else make_schedule(config, "ddim", steps)
        LatentDiffusion.__init__(self, "random", schedule, guidance, "epsilon", alphas, weights.dtype)
        self.tokenizer, self.pixels = t5_words(), None  # 512-pixel models do not read the size
        self.encoders = (weights.make(t5),)
        self.denoiser, self.vae = weights.make(pixart), checkpointed(weights.make(vae), True)
        settle(self, self.denoiser.proj_out, weights)

    def embed(self, prompts: Sequence[str]) -> Text:
        """On the meta device without T5, which asks for the values of its mask."""
        if self.device.type != "meta":
            return super().embed(prompts)
        shape, wide = (len(prompts), LONGEST), self.denoiser.config.caption_channels
        words = torch.ones(shape, dtype=torch.bool, device="meta")
        return Text(torch.empty(*shape, wide, dtype=self.dtype, device="meta"), mask=words)


class RandomAesthetic(Aesthetic):
    """On CLIP ViT-L/14."""

    def __init__(self, weights: Weights) -> None:
        self.clip = towers(weights, clip_l)
        self.head = weights.make(lambda size: AestheticHead(self.clip.width), "float32")


class RandomHPSv2(HPSv2):
    """On CLIP ViT-H/14."""

    def __init__(self, weights: Weights) -> None:
        self.clip = towers(weights, clip_h, "pad")


class RandomPickScore(PickScore):
    """On CLIP ViT-H/14."""

    def __init__(self, weights: Weights) -> None:
        self.clip = towers(weights, clip_h)


class RandomCLIPScore(CLIPScore):
    """On CLIP ViT-H/14."""

    def __init__(self, weights: Weights) -> None:
        self.clip = towers(weights, clip_h)


class RandomImageReward(ImageReward):
    """On BLIP ViT-L/16."""

    def __init__(self, weights: Weights) -> None:
        self.scorer = weights.make(imagereward, "float32")
        self.tokenizer = bert_words()
        self.side, self.tokens = self.scorer.vision.config.image_size, {}

    def _tokens(self, prompts: tuple[str, ...], device: torch.device) -> tuple[Tensor, Tensor]:
        """On the meta device without the mask, whose values transformers asks for."""
        tokens, mask = super()._tokens(prompts, device)
        return tokens, mask if device.type != "meta" else cast(Tensor, None)


def composite(weights: Weights) -> Weighted:
    """ReNO's four rewards with its weights."""
    kinds = {RandomHPSv2: 5.0, RandomImageReward: 1.0, RandomCLIPScore: 0.01, RandomPickScore: 0.05}
    return Weighted([Term(kind(weights), weight) for kind, weight in kinds.items()])


@dataclass(frozen=True)
class Model:
    """A model as the paper runs it.

    Attributes:
        backbone: from weights, T and the scale of guidance.
        reward: from weights.
        steps: T.
        guidance: scale; 1 is none.
    """

    backbone: Callable[[Weights, int, float], LatentDiffusion]
    reward: Callable[[Weights], Reward]
    steps: int
    guidance: float


MODELS = {
    "sd15": Model(RandomStableDiffusion, RandomAesthetic, 100, 5.0),
    "sdxl": Model(RandomSDXL, RandomHPSv2, 100, 5.0),
    "turbo": Model(partial(RandomSDXL, turbo=True), RandomHPSv2, 1, 1.0),
    "pixart": Model(RandomPixArt, composite, 1, 1.0),
}


def encode(backbone: LatentDiffusion, prompts: Sequence[str]) -> Condition:
    """Encoded prompts; on the meta device, which nothing can leave, without moving the encoders."""
    if backbone.device.type == "meta":
        return Condition(backbone.embed(prompts), backbone.unconditional(len(prompts)))
    return backbone.encode(prompts)


def clip_words() -> CLIPTokenizer:
    """A tokenizer that pads to the length that Stable Diffusion reads; which ids it gives costs nothing."""
    tokenizer = build_tokenizer()
    tokenizer.model_max_length = CLIP_TOKENS
    return tokenizer


def bert_words() -> BertTokenizer:
    """The same for BERT, letter by letter."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    return BertTokenizer(vocab={word: index for index, word in enumerate(words)})


def t5_words() -> T5Tokenizer:
    """The same for T5, letter by letter."""
    pieces = ["▁", *LETTERS]
    return T5Tokenizer(
        vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), *((p, -1.0) for p in pieces)], extra_ids=0
    )


class UnreadTowers(ClipTowers):
    """On the meta device: a text's embedding is a constant of an iteration, of which nothing is counted."""

    def _embed_texts(self, prompts: tuple[str, ...]) -> Tensor:
        return torch.empty(len(prompts), self.width, device="meta")


def towers(weights: Weights, build: Callable[[Size], nn.Module], square: Literal["crop", "pad"] = "crop") -> ClipTowers:
    """A random CLIP as rewards hold theirs."""
    kind = UnreadTowers if weights.device.type == "meta" else ClipTowers
    return kind(cast(CLIPModel, weights.make(build, "float32")), clip_words(), square)


@torch.no_grad()
def settle(backbone: LatentDiffusion, last: nn.Module, weights: Weights) -> None:
    """Shape and device of a built backbone, its last layer scaled to predict `PREDICTED`, and compiled."""
    config = backbone.denoiser.config
    backbone.latent_shape = (config.in_channels, config.sample_size, config.sample_size)
    backbone.to(weights.device)
    if weights.device.type == "meta":
        return
    x = torch.randn(1, *backbone.latent_shape, generator=torch.Generator().manual_seed(0)).to(weights.device)
    middle = torch.full((1,), 500, device=weights.device)
    text = encode(backbone, ["a cat"]).positive
    factor = PREDICTED / backbone.output(x, middle, backbone.alphas_cumprod[500], text).std()
    for parameter in last.parameters():
        parameter.mul_(factor)
    backbone.compile = weights.compile
    compiled(backbone.denoiser, weights.compile)
