from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from mira_pl.rewards import CLIPScore, PickScore
from mira_pl.rewards.preprocess import clip_pixels

PROMPTS = ["a cat", "a blue dog", "generate an image of a fox", "a cat and a red apple"]


def test_score_is_the_models_own_logit(tiny_clip: Path, images: Tensor) -> None:
    """Of every picture with its own prompt: the diagonal, not the first element."""
    model = CLIPModel.from_pretrained(tiny_clip, dtype=torch.float32).eval()
    tokens = CLIPTokenizer.from_pretrained(tiny_clip)(PROMPTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        output = model(input_ids=tokens.input_ids, pixel_values=clip_pixels(images, 32))
    score = PickScore(str(tiny_clip), str(tiny_clip)).score(images, PROMPTS)
    torch.testing.assert_close(score, output.logits_per_image.diag())


def test_rewards_on_one_model_share_it(tiny_clip: Path) -> None:
    """Two rewards on one model hold its weights once; another tokenizer makes other towers."""
    first, second = CLIPScore(str(tiny_clip)), CLIPScore(str(tiny_clip))
    assert first.clip is second.clip
    assert PickScore(str(tiny_clip), str(tiny_clip)).clip is not first.clip
