"""HPSv2's weights come in open_clip's layout: here is that model in plain torch, to compare with."""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPModel

from mira_pl.rewards import HPSv2
from mira_pl.rewards.hpsv2 import VIT_H_14, clip_config, from_open_clip
from mira_pl.rewards.preprocess import clip_pixels
from mira_pl.world.tokens import MAX_TOKENS, build_tokenizer

PROMPTS = ["a cat", "a blue dog", "generate an image of a fox", "a cat and a red apple"]


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=nn.GELU(), c_proj=nn.Linear(4 * width, width))
        )

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):
    def __init__(self, embed_dim: int, image_size: int, layers: int, width: int, head_width: int, patch_size: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch_size, patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn((image_size // patch_size) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(width, layers, width // head_width)
        self.proj = nn.Parameter(torch.randn(width, embed_dim))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class OpenCLIP(nn.Module):
    def __init__(self, embed_dim: int, vision_cfg: dict[str, Any], text_cfg: dict[str, Any]) -> None:
        super().__init__()
        width = text_cfg["width"]
        self.visual = Visual(embed_dim, **vision_cfg)
        self.transformer = Transformer(width, text_cfg["layers"], text_cfg["heads"])
        self.token_embedding = nn.Embedding(text_cfg["vocab_size"], width)
        self.positional_embedding = nn.Parameter(torch.randn(text_cfg["context_length"], width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, embed_dim))
        self.logit_scale = nn.Parameter(torch.tensor(4.6))

    def encode_text(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        mask = torch.full((length, length), -torch.inf).triu(1)
        x = self.token_embedding(tokens) + self.positional_embedding[:length]
        x = self.ln_final(self.transformer(x, mask))
        return x[torch.arange(len(x)), tokens.argmax(dim=-1)] @ self.text_projection


def tiny(words: int) -> dict[str, Any]:
    vision = {"image_size": 28, "layers": 2, "width": 32, "head_width": 16, "patch_size": 14}
    text = {"context_length": MAX_TOKENS, "vocab_size": words, "width": 24, "heads": 3, "layers": 2}
    return {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}


@pytest.fixture(scope="module")
def peer() -> OpenCLIP:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = OpenCLIP(**tiny(len(build_tokenizer())))
        for parameter in model.parameters():  # norms at 1 and biases at 0 would hide a mix-up
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="module")
def folder(peer: OpenCLIP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hps")
    torch.save({"state_dict": peer.state_dict()}, folder / "HPS_v2_compressed.pt")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": tiny(len(build_tokenizer()))}))
    build_tokenizer().save_pretrained(folder)
    return folder


def test_score_is_that_of_the_model_in_its_own_layout(peer: OpenCLIP, folder: Path, images: Tensor) -> None:
    tokens = build_tokenizer()(PROMPTS, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt").input_ids
    with torch.no_grad():
        sides = peer.visual(clip_pixels(images, 28)), peer.encode_text(tokens)
    expected = (F.normalize(sides[0], dim=-1) * F.normalize(sides[1], dim=-1)).sum(dim=-1)
    score = HPSv2(str(folder), tokenizer=str(folder)).score(images, PROMPTS)
    torch.testing.assert_close(score, expected, atol=1e-6, rtol=1e-5)
    assert score.std() > 1e-3


def test_every_weight_of_vit_h_14_has_its_place() -> None:
    with torch.device("meta"):
        ours, theirs = CLIPModel(clip_config(VIT_H_14)), OpenCLIP(**VIT_H_14)
    mapped, wanted = from_open_clip(theirs.state_dict()), ours.state_dict()
    assert (len(theirs.state_dict()), len(mapped)) == (686, 910)
    assert {key: value.shape for key, value in mapped.items()} == {key: value.shape for key, value in wanted.items()}
    assert sum(value.numel() for value in mapped.values()) == pytest.approx(986.1e6, rel=1e-4)


def test_the_mask_of_older_checkpoints_is_dropped(peer: OpenCLIP) -> None:
    weights = peer.state_dict()
    assert from_open_clip(weights | {"attn_mask": torch.zeros(3, 3)}).keys() == from_open_clip(weights).keys()


def test_versions_are_files_of_one_folder(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither HPS_v2.1_compressed.pt nor model.safetensors"):
        HPSv2(str(folder), version="2.1", tokenizer=str(folder))


def test_another_architecture_is_named(folder: Path, tmp_path: Path) -> None:
    save_file({"logit_scale": torch.zeros(())}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors is no open_clip checkpoint") as caught:
        HPSv2(str(tmp_path), tokenizer=str(folder))
    assert len(str(caught.value).splitlines()) == 1


def test_code_in_a_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": Path("code")}}, tmp_path / "HPS_v2_compressed.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        HPSv2(str(tmp_path), tokenizer=str(folder))


def test_a_wide_picture_is_padded_not_cropped() -> None:
    wide = torch.ones(1, 3, 20, 40)
    padded = clip_pixels(wide, 28, "pad")
    black = clip_pixels(-torch.ones(1, 3, 28, 28), 28)
    assert padded.shape == (1, 3, 28, 28)
    assert torch.equal(padded[:, :, :7], black[:, :, :7]) and torch.equal(padded[:, :, 21:], black[:, :, 21:])
    assert (padded[:, :, 7:21] > black[:, :, 7:21]).all()
