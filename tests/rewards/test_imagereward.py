"""ImageReward's image tower comes in timm's layout: it is compared with that model in plain torch."""

import logging
from pathlib import Path

import pytest
import torch
from peers import TimmViT, imagereward_checkpoint
from torch import Tensor, nn
from transformers import BertTokenizer, BlipTextConfig, BlipVisionConfig

from mira_pl.rewards import ImageReward
from mira_pl.rewards.imagereward import MEAN, STD, Scorer, from_original, load_scorer, text_config, vision_config
from mira_pl.rewards.preprocess import clip_pixels

PROMPTS = ["a cat", "a blue dog", "a red fox", "a cat"]
SMALL_VISION = BlipVisionConfig(
    hidden_size=128, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16,
    layer_norm_eps=1e-6, hidden_act="gelu",
)  # fmt: skip
SMALL_TEXT = BlipTextConfig(
    vocab_size=100, hidden_size=128, encoder_hidden_size=128, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=2, max_position_embeddings=64, layer_norm_eps=1e-12, hidden_act="gelu", is_decoder=True,
)  # fmt: skip
# BLIP-large at 224 pixels: ViT-L/16, and BERT-base that attends to it.
VISION = BlipVisionConfig(
    hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=224,
    patch_size=16, layer_norm_eps=1e-6, hidden_act="gelu",
)  # fmt: skip
TEXT = BlipTextConfig(
    vocab_size=30524, hidden_size=768, encoder_hidden_size=1024, intermediate_size=3072, num_hidden_layers=12,
    num_attention_heads=12, max_position_embeddings=512, layer_norm_eps=1e-12, hidden_act="gelu", is_decoder=True,
)  # fmt: skip


def shaken(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return module.eval()


@pytest.fixture(scope="module")
def parts() -> tuple[TimmViT, Scorer]:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        vision, scorer = shaken(TimmViT(SMALL_VISION)), shaken(Scorer(SMALL_VISION, SMALL_TEXT))
    assert isinstance(vision, TimmViT) and isinstance(scorer, Scorer)
    return vision, scorer


@pytest.fixture(scope="module")
def folder(parts: tuple[TimmViT, Scorer], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imagereward")
    torch.save(imagereward_checkpoint(*parts), folder / "ImageReward.pt")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "blue", "dog", "red", "fox"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}).save_pretrained(folder)
    return folder


def test_image_tower_is_the_original(parts: tuple[TimmViT, Scorer], folder: Path, images: Tensor) -> None:
    loaded = load_scorer(folder / "ImageReward.pt")
    pixels = clip_pixels(images, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded.vision(pixel_values=pixels).last_hidden_state, parts[0](pixels))


def test_score_is_the_standardised_head_on_the_first_token(folder: Path, images: Tensor) -> None:
    reward = ImageReward(str(folder), str(folder))
    tokens = reward.tokenizer(PROMPTS, padding="longest", return_tensors="pt")
    with torch.no_grad():
        seen = reward.scorer.vision(pixel_values=clip_pixels(images, 32)).last_hidden_state
        read = reward.scorer.text(**tokens, encoder_hidden_states=seen).last_hidden_state[:, 0]
        weight, bias = collapsed(reward.scorer.head)
    expected = (read @ weight + bias - MEAN) / STD
    torch.testing.assert_close(reward.score(images, PROMPTS), expected, atol=1e-5, rtol=1e-4)


def test_every_weight_of_the_full_model_has_its_place() -> None:
    with torch.device("meta"):
        scorer = Scorer(VISION, TEXT)
        weights = imagereward_checkpoint(TimmViT(VISION), scorer)
    mapped = from_original(weights)
    assert {k: v.shape for k, v in mapped.items()} == {k: v.shape for k, v in scorer.state_dict().items()}
    assert vision_config(weights).to_dict() == VISION.to_dict()
    assert text_config(weights).to_dict() == TEXT.to_dict()


def test_another_checkpoint_is_named(tmp_path: Path) -> None:
    torch.save({"mlp.layers.0.bias": torch.zeros(3)}, tmp_path / "ImageReward.pt")
    said = r"ImageReward\.pt holds something else, not an ImageReward: it lacks 'blip\."
    with pytest.raises(ValueError, match=said) as caught:
        load_scorer(tmp_path / "ImageReward.pt")
    assert len(str(caught.value).splitlines()) == 1


def collapsed(head: nn.Module) -> tuple[Tensor, Tensor]:
    """The layers without activations as one affine map."""
    size = next(head.parameters()).shape[1]
    bias = head(torch.zeros(size))
    return head(torch.eye(size)) - bias, bias


def test_a_prompt_that_is_cut_is_told_once(folder: Path, images: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    """It is scored at every iteration."""
    reward, long = ImageReward(str(folder), str(folder)), "a cat " * 20
    with caplog.at_level(logging.WARNING, logger="mira_pl"):
        for _ in range(3):
            reward.score(images[:1], [long])
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("ImageReward reads 35 tokens of the prompt 'a cat a cat")
    assert line.endswith(": 'cat a cat a cat a cat' is cut off")
