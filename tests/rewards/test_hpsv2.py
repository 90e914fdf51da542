"""HPSv2's weights come in open_clip's layout: they are compared with that model in plain torch."""

import json
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from peers import OpenCLIP, tiny_open_clip
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPModel

from mira_pl.rewards import HPSv2
from mira_pl.rewards.hpsv2 import (
    VIT_H_14,
    clip_config,
    from_open_clip,
    load_open_clip,
    open_clip_architecture,
    to_open_clip,
)
from mira_pl.rewards.preprocess import clip_pixels
from mira_pl.world.tokens import MAX_TOKENS, build_tokenizer

PROMPTS = ["a cat", "a blue dog", "generate an image of a fox", "a cat and a red apple"]


@pytest.fixture(scope="module")
def peer() -> OpenCLIP:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = OpenCLIP(**tiny_open_clip(len(build_tokenizer())))
        for parameter in model.parameters():  # norms at 1 and biases at 0 would hide a mix-up
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="module")
def folder(peer: OpenCLIP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hps")
    torch.save({"state_dict": peer.state_dict()}, folder / "HPS_v2_compressed.pt")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": tiny_open_clip(len(build_tokenizer()))}))
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


def test_the_way_back_to_open_clips_layout_is_exact(peer: OpenCLIP) -> None:
    weights = peer.state_dict()
    back = to_open_clip(from_open_clip(weights))
    assert back.keys() == weights.keys() and all(torch.equal(back[key], weights[key]) for key in weights)
    architecture = tiny_open_clip(len(build_tokenizer()))
    assert open_clip_architecture(clip_config(architecture)) == architecture


def test_the_mask_of_older_checkpoints_is_dropped(peer: OpenCLIP, tmp_path: Path) -> None:
    """It holds infinities, which weights must not."""
    torch.save(peer.state_dict() | {"attn_mask": torch.full((3, 3), -torch.inf)}, tmp_path / "old.pt")
    assert load_open_clip(tmp_path / "old.pt", tiny_open_clip(len(build_tokenizer()))).config.projection_dim == 16


def test_versions_are_files_of_one_folder(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"lacks HPS_v2.1_compressed.pt or model.safetensors"):
        HPSv2(str(folder), version="2.1", tokenizer=str(folder))


def test_another_architecture_is_named(folder: Path, tmp_path: Path) -> None:
    save_file({"logit_scale": torch.zeros(())}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors holds something else, not an open_clip") as caught:
        HPSv2(str(tmp_path), tokenizer=str(folder))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["bias", "layers.0.weight", "transformer.resblocks.0.attn.ln.weight"])
def test_a_tensor_that_no_open_clip_has_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    save_file({name: torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=rf"architecture: no CLIP of open_clip has a tensor '{re.escape(name)}'$"):
        HPSv2(str(tmp_path), tokenizer=str(folder))


def test_code_in_a_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": Path("code")}}, tmp_path / "HPS_v2_compressed.pt")
    with pytest.raises(ValueError, match="is damaged, or holds code"):
        HPSv2(str(tmp_path), tokenizer=str(folder))


def test_a_wide_picture_is_padded_not_cropped() -> None:
    wide = torch.ones(1, 3, 20, 40)
    padded = clip_pixels(wide, 28, "pad")
    black = clip_pixels(-torch.ones(1, 3, 28, 28), 28)
    assert padded.shape == (1, 3, 28, 28)
    assert torch.equal(padded[:, :, :7], black[:, :, :7]) and torch.equal(padded[:, :, 21:], black[:, :, 21:])
    assert (padded[:, :, 7:21] > black[:, :, 7:21]).all()


def test_a_clip_of_transformers_is_named(tiny_clip: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"holds a CLIPModel of transformers, not an open_clip checkpoint"):
        HPSv2(str(tiny_clip / "model.safetensors"), tokenizer=str(folder))


def test_rewards_on_one_file_share_it(folder: Path) -> None:
    first, second = (HPSv2(str(folder), tokenizer=str(folder)) for _ in range(2))
    assert first.clip is second.clip and HPSv2("emoji").clip is not first.clip


def test_a_model_of_one_file_has_no_other_version(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^HPSv2 'emoji' has no version 2\.1, it is model\.safetensors: leave"):
        HPSv2("emoji", version="2.1")
    with pytest.raises(ValueError, match=r"has no version 2\.1, it is HPS_v2_compressed\.pt"):
        HPSv2(str(folder / "HPS_v2_compressed.pt"), version="2.1", tokenizer=str(folder))
    later = tmp_path / "HPS_v2.1_compressed.pt"
    later.write_bytes((folder / "HPS_v2_compressed.pt").read_bytes())
    later.with_name("open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    assert HPSv2(str(tmp_path), version="2.1", tokenizer=str(folder)).clip.width == 16
