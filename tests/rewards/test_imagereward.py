"""ImageReward's image tower comes in timm's layout: here it is in plain torch, to compare with."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertTokenizer, BlipTextConfig, BlipVisionConfig

from mira_pl.rewards import ImageReward
from mira_pl.rewards.imagereward import MEAN, STD, TEXT, VISION, Scorer, from_original, load_scorer
from mira_pl.rewards.preprocess import clip_pixels

PROMPTS = ["a cat", "a blue dog", "a red fox", "a cat"]
SMALL_VISION = BlipVisionConfig(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16,
    layer_norm_eps=1e-6, hidden_act="gelu",
)  # fmt: skip
SMALL_TEXT = BlipTextConfig(
    vocab_size=30524, hidden_size=24, encoder_hidden_size=32, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=2, max_position_embeddings=64, layer_norm_eps=1e-12, hidden_act="gelu", is_decoder=True,
)  # fmt: skip


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(x).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn = Attention(width, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class TimmViT(nn.Module):
    def __init__(self, config: BlipVisionConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, (config.image_size // patch) ** 2 + 1, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        blocks = (Block(width, config.intermediate_size, config.num_attention_heads),)
        blocks += tuple(
            Block(width, config.intermediate_size, config.num_attention_heads)
            for _ in range(config.num_hidden_layers - 1)
        )
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, 1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def shaken(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return module.eval()


def original(vision: nn.Module, scorer: Scorer) -> dict[str, Tensor]:
    """The checkpoint as its authors name it, with what the score does not need."""
    weights = {f"blip.visual_encoder.{k}": v for k, v in vision.state_dict().items()}
    weights |= {f"blip.text_encoder.{k}": v for k, v in scorer.text.state_dict().items()}
    weights |= {f"mlp.{k}": v for k, v in scorer.head.state_dict().items()}
    unused = {"blip.text_encoder.embeddings.position_ids": torch.arange(8)[None], "blip.text_proj.bias": torch.ones(3)}
    return weights | unused


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
    torch.save(original(*parts), folder / "ImageReward.pt")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "blue", "dog", "red", "fox"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}).save_pretrained(folder)
    return folder


def test_image_tower_is_the_original(parts: tuple[TimmViT, Scorer], folder: Path, images: Tensor) -> None:
    loaded = load_scorer(folder / "ImageReward.pt", SMALL_VISION, SMALL_TEXT)
    pixels = clip_pixels(images, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded.vision(pixel_values=pixels).last_hidden_state, parts[0](pixels))


def test_score_is_the_standardised_head_on_the_first_token(
    folder: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    reward = small_reward(folder, monkeypatch)
    tokens = reward.tokenizer(PROMPTS, padding="longest", return_tensors="pt")
    with torch.no_grad():
        seen = reward.scorer.vision(pixel_values=clip_pixels(images, 32)).last_hidden_state
        read = reward.scorer.text(**tokens, encoder_hidden_states=seen).last_hidden_state[:, 0]
        weight, bias = collapsed(reward.scorer.head)
    expected = (read @ weight + bias - MEAN) / STD
    torch.testing.assert_close(reward.score(images, PROMPTS), expected, atol=1e-5, rtol=1e-4)


def test_batch_is_singles_and_gradients_reach_the_images(
    folder: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    reward = small_reward(folder, monkeypatch)
    together = reward.score(images.requires_grad_(), PROMPTS)
    alone = [reward.score(images[i : i + 1], PROMPTS[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)
    together.sum().backward()
    assert images.grad is not None and (images.grad.abs().amax(dim=(1, 2, 3)) > 0).all()
    assert not any(p.requires_grad for p in reward.scorer.parameters())


def test_every_weight_of_the_full_model_has_its_place() -> None:
    with torch.device("meta"):
        scorer = Scorer(VISION, TEXT)
        mapped = from_original(original(TimmViT(VISION), scorer))
    assert {k: v.shape for k, v in mapped.items()} == {k: v.shape for k, v in scorer.state_dict().items()}
    assert VISION.layer_norm_eps == 1e-6 and TEXT.layer_norm_eps == 1e-12


def test_another_checkpoint_is_named(tmp_path: Path) -> None:
    torch.save({"mlp.layers.0.bias": torch.zeros(3)}, tmp_path / "ImageReward.pt")
    with pytest.raises(ValueError, match=r"ImageReward\.pt is no ImageReward checkpoint") as caught:
        load_scorer(tmp_path / "ImageReward.pt", SMALL_VISION, SMALL_TEXT)
    assert len(str(caught.value).splitlines()) == 1


def small_reward(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ImageReward:
    monkeypatch.setattr("mira_pl.rewards.imagereward.VISION", SMALL_VISION)
    monkeypatch.setattr("mira_pl.rewards.imagereward.TEXT", SMALL_TEXT)
    return ImageReward(str(folder), str(folder))


def collapsed(head: nn.Module) -> tuple[Tensor, Tensor]:
    """The layers without activations as one affine map."""
    size = next(head.parameters()).shape[1]
    bias = head(torch.zeros(size))
    return head(torch.eye(size)) - bias, bias
