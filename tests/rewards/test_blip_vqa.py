"""BLIP-VQA against its definition, on a small model of the real class with the real vocabulary size."""

import logging
from pathlib import Path

import published
import pytest
import torch
from torch import Tensor

from mira_pl.rewards import BLIPVQA
from mira_pl.rewards.blip_vqa import phrases, squashed

PROMPTS = ["a green bench and a blue bowl", "a cat", "", "a red fox with a bow"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published.blip_vqa(tmp_path_factory.mktemp("blip"))


@torch.no_grad()
def probability(reward: BLIPVQA, image: Tensor, question: str) -> float:
    """P(yes) / (P(yes) + P(no)) of one question about one image, from the whole distribution of the first word."""
    seen = reward.blip.vision_model(pixel_values=squashed(image, 32)).last_hidden_state
    tokens = reward.tokenizer([question], return_tensors="pt").input_ids
    tokens[0, 0] = 30523
    read = reward.blip.text_encoder(input_ids=tokens, encoder_hidden_states=seen).last_hidden_state
    first = reward.blip.text_decoder(input_ids=torch.tensor([[30522]]), encoder_hidden_states=read).logits[0, 0]
    chance = first.double().softmax(dim=0)
    return float(chance[2748] / (chance[2748] + chance[2053]))


def test_score_is_the_product_over_noun_phrases(folder: Path, images: Tensor) -> None:
    reward = BLIPVQA(str(folder))
    both = probability(reward, images[:1], "a green bench?") * probability(reward, images[:1], "a blue bowl?")
    expected = torch.tensor([both, probability(reward, images[1:2], "a cat?"), 1.0])
    torch.testing.assert_close(reward.score(images, PROMPTS)[:3], expected, atol=1e-5, rtol=1e-4)


def test_prompts_without_a_phrase_score_one(folder: Path, images: Tensor) -> None:
    """And have no gradient, but a graph, so that a batch of them can be optimised."""
    scores = BLIPVQA(str(folder)).score(images.requires_grad_(), ["", ".", "!", " "])
    assert torch.equal(scores, torch.ones(4))
    scores.sum().backward()
    assert images.grad is not None and (images.grad == 0).all()


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a green bench and a blue bowl", ["a green bench", "a blue bowl"]),
        ("The fluffy cat with a Bow.", ["the fluffy cat", "a bow"]),
        ("a sandwich", ["a sandwich"]),
        ("a rubber ball, a glass vase and a mug!", ["a rubber ball", "a glass vase", "a mug"]),
    ],
)  # fmt: skip
def test_phrases(prompt: str, expected: list[str]) -> None:
    assert phrases(prompt) == expected


def test_a_picture_is_squashed_whatever_its_format() -> None:
    assert squashed(torch.zeros(2, 3, 20, 40), 32).shape == (2, 3, 32, 32)


def test_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"lacks config\.json, model\.safetensors") as caught:
        BLIPVQA(str(tmp_path))
    assert len(str(caught.value).splitlines()) == 1


def test_a_clip_is_named(tiny_clip: Path) -> None:
    with pytest.raises(ValueError, match=r"is a CLIPModel .*where a BlipForQuestionAnswering is needed: CLIPScore"):
        BLIPVQA(str(tiny_clip))


def test_a_question_that_is_cut_is_told(folder: Path, images: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="mira_pl"):
        BLIPVQA(str(folder)).score(images[:1], ["a cat " * 20])
    assert "BLIPVQA reads 35 tokens of the prompt 'a cat a cat" in caplog.text
