"""The world's PickScore and HPSv2: its CLIP, tuned on which of two pictures synthetic people choose for a prompt."""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from ..rewards.hpsv2 import open_clip_architecture, to_open_clip
from ..rewards.towers import pooled
from ..types import Images, PerJob
from .aesthetic import WEIGHTS, judge_taste
from .clip import normalise, soften
from .names import ANIMALS, COLOURS
from .render import Renderer
from .scenes import generator, named_scenes, sample_scenes
from .tokens import MAX_TOKENS
from .training import WorldTraining

WRONG = 0.2  # share of pictures with another animal, and of those in another colour


class Choices(NamedTuple):
    """Two pictures for every prompt, and the share of people who choose the first."""

    prompts: list[str]
    first: Images
    second: Images
    share: PerJob


def poll(count: int, random: torch.Generator, render: Renderer, faithful: float, taste: float) -> Choices:
    """Single animals, softened as decoded pictures are; each picture may show another animal or another colour.

    Args:
        faithful: points for the right animal; the right colour is worth half of them.
        taste: points for the best composition. Of two pictures a point apart, 73 % choose the better one.
    """
    wanted = sample_scenes(count, random, single=1.0)
    subject, colour = wanted.subject[:, 0], wanted.colour[:, 0]
    pictures, points = [], []
    for _ in range(2):
        shown, painted = _slip(subject, len(ANIMALS), random), _slip(colour, len(COLOURS), random)
        scenes = named_scenes(shown, painted, random)
        images = soften(render(scenes), random)
        liking = sum(WEIGHTS[name] * value for name, value in judge_taste(scenes, images).items()) / sum(
            WEIGHTS.values()
        )
        points.append(faithful * (shown == subject) + faithful / 2 * (painted == colour) + taste * liking)
        pictures.append(images)
    return Choices(wanted.captions, pictures[0], pictures[1], torch.sigmoid(points[0] - points[1]))


def _slip(right: Tensor, kinds: int, random: torch.Generator) -> Tensor:
    """The right index, or in a share of `WRONG` any of the first `kinds`."""
    other = torch.randint(kinds, right.shape, generator=random)
    return torch.where(torch.rand(right.shape, generator=random) < WRONG, other, right)


class PreferenceTraining(WorldTraining):
    """Cross-entropy of the choice between two pictures (Kirstain et al. 2023, eq. 2; Wu et al. 2023, eq. 3).

    Args:
        clip: folder of the world's CLIP, which is tuned.
        layout: `transformers` writes a CLIPModel folder, as PickScore is distributed; `open_clip` a state dict with its
            `open_clip_config.json`, as HPSv2, whose GELU is the exact one.
        faithful: see `poll`.
        taste: see `poll`.
    """

    def __init__(
        self,
        clip: Path = Path("pretrain_runs/clip/model"),
        out: Path = Path("pretrain_runs/pickscore/model"),
        steps: int = 600,
        batch_size: int = 48,
        lr: float = 2e-4,
        seed: int = 6,
        save_every: int = 100,
        layout: Literal["transformers", "open_clip"] = "transformers",
        faithful: float = 3.0,
        taste: float = 6.0,
    ) -> None:
        super().__init__(out, steps, batch_size, lr, seed, save_every)
        self.layout, self.faithful, self.taste = layout, faithful, taste
        config: Any = CLIPConfig.from_pretrained(clip)
        if layout == "open_clip":
            config.text_config.hidden_act = config.vision_config.hidden_act = "gelu"
        self.clip: Any = CLIPModel.from_pretrained(clip, config=config, dtype=torch.float32).train()
        self.tokenizer = CLIPTokenizer.from_pretrained(clip)
        self.render = Renderer()

    def learned(self) -> nn.Module:
        return self.clip

    def training_step(self, batch: int, index: int) -> Tensor:
        random = generator(self.seed, self.global_step)
        choices = poll(self.batch_size, random, self.render, self.faithful, self.taste)
        tokens = self.tokenizer(
            choices.prompts, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        ).input_ids.to(self.device)
        pictures = normalise(torch.cat([choices.first, choices.second])).to(self.device)
        seen = nn.functional.normalize(pooled(self.clip.get_image_features(pixel_values=pictures)).float(), dim=-1)
        read = nn.functional.normalize(pooled(self.clip.get_text_features(input_ids=tokens)).float(), dim=-1)
        scores = self.clip.logit_scale.exp() * (seen.view(2, *read.shape) * read).sum(dim=-1)
        share = choices.share.to(self.device)
        loss = nn.functional.binary_cross_entropy_with_logits(scores[0] - scores[1], share)
        agreed = ((scores[0] > scores[1]) == (share > 0.5)).float().mean()
        self.report(loss=loss, agreement=agreed)
        return loss

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(folder)
        if self.layout == "transformers":
            self.clip.half().save_pretrained(folder)
            return
        save_file(to_open_clip(self.clip.half().state_dict()), folder / "model.safetensors")
        described = {"model_cfg": open_clip_architecture(self.clip.config)}
        (folder / "open_clip_config.json").write_text(json.dumps(described, indent=2))
