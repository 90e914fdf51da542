"""The world's CLIP: reward, CLIPScore and, by its text tower, the conditioning of the text-to-image models."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from ..rewards.preprocess import OPENAI_MEAN, OPENAI_STD
from .names import COLOURS
from .render import Renderer
from .scenes import TEMPLATE, generator, sample_scenes
from .tokens import MAX_TOKENS, build_tokenizer
from .training import WorldTraining

WIDTH = 192
PROJECTION = 128


def build_clip() -> CLIPModel:
    """64 image tokens and 24 text tokens of width 192, by the class and configuration names of ViT-L/14."""
    tokenizer = build_tokenizer()
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_attention_heads": 3,
        "projection_dim": PROJECTION,
    }
    text = tower | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": MAX_TOKENS,
        "num_hidden_layers": 4,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = tower | {"image_size": 64, "patch_size": 8, "num_hidden_layers": 6}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=PROJECTION))


def canonical(caption: str) -> str:
    """The caption without template and articles: two pictures of equal text are no negatives of each other."""
    return " ".join(word for word in caption.removeprefix(TEMPLATE).split() if word not in ("a", "an"))


def normalise(images: Tensor) -> Tensor:
    """[-1, 1] to the pixels CLIP was defined on: clamped, minus mean, over standard deviation."""
    mean, std = torch.tensor(OPENAI_MEAN).view(3, 1, 1), torch.tensor(OPENAI_STD).view(3, 1, 1)
    return ((images / 2 + 0.5).clamp(0, 1) - mean) / std


def soften(images: Tensor, random: torch.Generator) -> Tensor:
    """Half of the pictures slightly blurred and noisy, as decoded ones are."""
    count = len(images)
    amount = torch.rand(count, 1, 1, 1, generator=random) * (torch.rand(count, 1, 1, 1, generator=random) < 0.5)
    blurred = torch.lerp(images, F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1), amount)
    return blurred + 0.05 * amount * torch.randn(images.shape, generator=random)


class CLIPTraining(WorldTraining):
    """Symmetric cross-entropy over the batch, equal captions excluded from the negatives.

    Args:
        palette: colours a batch shares. With all eleven, colour alone tells most pictures apart and only half of the
            animals of one colour are learned; with two from the first step on, fewer still.
        start: folder of the CLIP to go on from, with its vocabulary; None starts from random weights.
    """

    def __init__(
        self,
        out: Path = Path("pretrain_runs/clip/model"),
        steps: int = 1200,
        batch_size: int = 128,
        lr: float = 1e-3,
        seed: int = 2,
        save_every: int = 500,
        palette: int = len(COLOURS),
        start: Path | None = None,
    ) -> None:
        super().__init__(out, steps, batch_size, lr, seed, save_every)
        self.palette = palette
        self.clip = build_clip() if start is None else CLIPModel.from_pretrained(start, dtype=torch.float32)
        self.clip.train()
        self.tokenizer = build_tokenizer() if start is None else CLIPTokenizer.from_pretrained(start)
        self.render = Renderer()

    def learned(self) -> nn.Module:
        return self.clip

    def training_step(self, batch: int, index: int) -> Tensor:
        random = generator(self.seed, self.global_step)
        scenes = sample_scenes(self.batch_size, random, palette=self.palette)
        images = normalise(soften(self.render(scenes), random)).to(self.device)
        tokens = self.tokenizer(
            scenes.captions, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        ).input_ids.to(self.device)
        logits = self.clip(input_ids=tokens, pixel_values=images).logits_per_image.float()
        texts = [canonical(caption) for caption in scenes.captions]
        same = torch.tensor([[a == b for b in texts] for a in texts], device=self.device)
        target = torch.arange(len(texts), device=self.device)
        logits = logits.masked_fill(same & ~torch.eye(len(texts), dtype=torch.bool, device=self.device), -1e4)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        self.report(loss=loss, accuracy=(logits.argmax(dim=1) == target).float().mean())
        return loss

    def export(self, folder: Path) -> None:
        self.clip.half().save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
