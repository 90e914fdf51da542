"""BLIP-VQA: attribute binding as T2I-CompBench measures it, one question a noun phrase (Huang et al. 2023)."""

import itertools
import re
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertTokenizer, BlipForQuestionAnswering
from typing_extensions import Self

from ..hub import Need, layouts
from ..hub.loading import load_part, load_weights
from ..text import warn_of_cuts
from ..types import Images, PerJob
from .base import Reward
from .preprocess import statistics

REPOSITORY = "Salesforce/blip-vqa-base"
LONGEST = 35
ENCODE = 30523
"""[ENC], which the original puts in the place of the question's first token and transformers does not."""
START, YES, NO = 30522, 2748, 2053
"""[DEC], with which answers begin, and the first words of the two that are asked for."""

PUNCTUATION = str.maketrans("", "", '.!"()*#:;~')


class BLIPVQA(Reward):
    """Product over the prompt's noun phrases of P(yes) / (P(yes) + P(no)) on "{phrase}?": in [0, 1].

    Args:
        model: hub id or local folder of a BlipForQuestionAnswering and its BERT tokenizer.
    """

    differentiable: ClassVar[bool] = True

    def __init__(self, model: str = REPOSITORY) -> None:
        needs = self.needs(model)
        loaded = load_weights(BlipForQuestionAnswering, needs["blip"], torch.float32)
        self.blip: BlipForQuestionAnswering = loaded.eval().requires_grad_(False)
        self.tokenizer: BertTokenizer = load_part(BertTokenizer.from_pretrained, needs["tokenizer"])
        self.side = cast(Any, self.blip.config).vision_config.image_size

    @staticmethod
    def needs(model: str, **_: Any) -> dict[str, Need]:
        optional = ("generation_config.json",)
        return {
            "blip": layouts.transformers_weights(model, "", "BlipForQuestionAnswering", optional=optional),
            "tokenizer": layouts.tokenizer(model, "", "vocab.txt"),
        }

    def score(self, images: Images, prompts: Sequence[str]) -> PerJob:
        """A prompt without a phrase scores 1, as in the original."""
        questions = [[f"{phrase}?" for phrase in phrases(prompt)] for prompt in prompts]
        owner = torch.tensor([row for row, asked in enumerate(questions) for _ in asked], device=images.device)
        seen = self.blip.vision_model(pixel_values=squashed(images, self.side)).last_hidden_state
        flat = [question for asked in questions for question in asked]
        if not flat:
            return torch.ones(len(images), device=images.device) + 0 * seen.sum(dim=(1, 2))
        log_yes = F.logsigmoid(self._margins(seen[owner], flat))
        return torch.zeros(len(images), device=images.device).index_add(0, owner, log_yes).exp()

    def to(self, device: torch.device) -> Self:
        """Moves the model in place."""
        cast(Any, self.blip).to(device)
        return self

    def _margins(self, seen: Tensor, questions: list[str]) -> Tensor:
        """Logit of yes minus logit of no, one a question.

        Questions of one length at a time, without padding: the decoder of transformers 5 drops the mask of what it
        attends to in the encoder.
        """
        warn_of_cuts(self.tokenizer, questions, LONGEST, self.name)
        tokens = self.tokenizer(questions, truncation=True, max_length=LONGEST).input_ids
        lengths = [len(ids) for ids in tokens]
        order = sorted(range(len(tokens)), key=lengths.__getitem__)
        parts = [list(rows) for _, rows in itertools.groupby(order, key=lengths.__getitem__)]
        margins = [self._margin(seen[rows], torch.tensor([tokens[row] for row in rows])) for rows in parts]
        return torch.cat(margins)[torch.tensor(order).argsort()]

    def _margin(self, seen: Tensor, tokens: Tensor) -> Tensor:
        """The same for questions of equal length."""
        tokens = tokens.to(seen.device)
        tokens[:, 0] = ENCODE
        read = self.blip.text_encoder(input_ids=tokens, encoder_hidden_states=seen).last_hidden_state
        start = torch.full((len(tokens), 1), START, device=seen.device)
        answer = self.blip.text_decoder(input_ids=start, encoder_hidden_states=read, use_cache=False)
        logits = answer.logits[:, 0].float()
        return logits[:, YES] - logits[:, NO]


def phrases(prompt: str) -> list[str]:
    """The noun phrases of a prompt of T2I-CompBench's templates: what stands between "and" and "with", lower-cased."""
    parts = re.split(r"\s+(?:and|with)\s+|,", prompt.lower().translate(PUNCTUATION))
    return [part.strip() for part in parts if part.strip()]


def squashed(images: Images, side: int) -> Tensor:
    """[-1, 1] to BLIP's normalised pixels, `side` x `side` whatever the format."""
    pixels = (images.float() / 2 + 0.5).clamp(0, 1)
    if pixels.shape[-2:] != (side, side):
        pixels = F.interpolate(pixels, (side, side), mode="bicubic", antialias=True, align_corners=False)
    mean, std = statistics(pixels.device)
    return (pixels - mean) / std
