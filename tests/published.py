"""The published repositories at tiny size, file by file as the hub has them, beside files that nobody should read."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from peers import OpenCLIP, TimmViT, imagereward_checkpoint, tiny_open_clip
from transformers import (
    BertTokenizer,
    BlipTextConfig,
    BlipVisionConfig,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    T5EncoderModel,
)

from mira_pl.rewards.clip import AestheticHead
from mira_pl.rewards.imagereward import Scorer
from mira_pl.world.tokens import MAX_TOKENS, build_tokenizer

REVISION = "0" * 40
UNREAD = (
    "pytorch_model.bin", "diffusion_pytorch_model.bin", "model.fp16.safetensors", "flax_model.msgpack",
    "diffusion_pytorch_model.fp16.safetensors", "diffusion_flax_model.msgpack", "preprocessor_config.json",
)  # fmt: skip


def repositories(sd: Path, sdxl: Path, pixart: Path, made: Path) -> dict[str, Path]:
    """Folders by hub id; data sets under "datasets/"."""
    torch.manual_seed(0)
    xl = with_unread(with_words(shutil.copytree(sdxl, made / "sdxl")))
    found = {
        "stable-diffusion-v1-5/stable-diffusion-v1-5": with_unread(with_words(shutil.copytree(sd, made / "sd"))),
        "stabilityai/stable-diffusion-xl-base-1.0": xl,
        "stabilityai/sdxl-turbo": xl,
        "PixArt-alpha/PixArt-XL-2-1024-MS": with_unread(sharded(shutil.copytree(pixart, made / "pixart"))),
        "PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512": student(pixart, made / "student"),
        "openai/clip-vit-large-patch14": with_unread(clip(made / "clip-l", 768)),
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": with_unread(clip(made / "clip-h", 16)),
        "yuvalkirstain/PickScore_v1": with_unread(clip(made / "pick", 16)),
        "xswu/HPSv2": hpsv2(made / "hps"),
        "THUDM/ImageReward": imagereward(made / "imagereward"),
        "trl-lib/ddpo-aesthetic-predictor": head(made / "head"),
        "bert-base-uncased": bert(made / "bert"),
        "datasets/ymhao/HPDv2": hpdv2(made / "hpdv2"),
    }
    for folder in found.values():
        (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return found


def publish(home: Path, repository: str, folder: Path) -> None:
    """A repository as huggingface_hub keeps it."""
    kind, name = ("datasets", repository[9:]) if repository.startswith("datasets/") else ("models", repository)
    place = home / "hub" / f"{kind}--{name.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / REVISION)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(REVISION)


def with_words(folder: Path) -> Path:
    """Tokenizers as the first Stable Diffusions have them: words and merges, no tokenizer.json."""
    for place in folder.glob("tokenizer*"):
        tokenizer = CLIPTokenizer.from_pretrained(place)
        (place / "vocab.json").write_text(json.dumps(tokenizer.get_vocab()))
        (place / "merges.txt").write_text("#version: 0.2\n")
        (place / "special_tokens_map.json").write_text(json.dumps({"unk_token": tokenizer.unk_token}))
        (place / "tokenizer.json").unlink()
    return folder


def with_unread(folder: Path) -> Path:
    """Beside all weights: pickles, variants and those of other frameworks; beside a CLIP's words, their old files."""
    for config in list(folder.rglob("config.json")):
        for name in UNREAD:
            (config.parent / name).write_text("never read")
    if (folder / "tokenizer.json").exists():
        for name in ("vocab.json", "merges.txt"):
            (folder / name).write_text("never read")
    return folder


def sharded(folder: Path) -> Path:
    """T5 is published in shards."""
    encoder = T5EncoderModel.from_pretrained(folder / "text_encoder")
    shutil.rmtree(folder / "text_encoder")
    encoder.save_pretrained(folder / "text_encoder", max_shard_size="8KB")
    assert len(list((folder / "text_encoder").glob("*.safetensors"))) > 1
    return folder


def student(pixart: Path, folder: Path) -> Path:
    for part in ("transformer", "scheduler"):
        shutil.copytree(pixart / part, folder / part)
    return folder


def clip(folder: Path, projection: int) -> Path:
    tokenizer = build_tokenizer()
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    tower |= {"projection_dim": projection, "hidden_act": "gelu"}
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": MAX_TOKENS, "bos_token_id": 746}
    text = tower | words | {"eos_token_id": len(tokenizer) - 1}
    vision = tower | {"image_size": 28, "patch_size": 14}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=projection))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def hpsv2(folder: Path) -> Path:
    folder.mkdir()
    shape = tiny_open_clip(len(build_tokenizer()))
    weights = OpenCLIP(**shape).state_dict()
    for version in ("2", "2.1"):
        torch.save({"state_dict": weights}, folder / f"HPS_v{version}_compressed.pt")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": shape}))
    return folder


def imagereward(folder: Path) -> Path:
    folder.mkdir()
    shared: dict[str, Any] = {"num_hidden_layers": 2, "intermediate_size": 64, "hidden_size": 64}
    vision = BlipVisionConfig(**shared, num_attention_heads=1, image_size=32, patch_size=16)
    text = BlipTextConfig(
        **shared, num_attention_heads=1, vocab_size=100, encoder_hidden_size=64, max_position_embeddings=64,
        is_decoder=True,
    )  # fmt: skip
    torch.save(imagereward_checkpoint(TimmViT(vision), Scorer(vision, text)), folder / "ImageReward.pt")
    (folder / "med_config.json").write_text("{}")
    return folder


def head(folder: Path) -> Path:
    folder.mkdir()
    torch.save(AestheticHead(768).state_dict(), folder / "aesthetic-model.pth")
    return folder


def bert(folder: Path) -> Path:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "red"]
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}).save_pretrained(folder)
    (folder / "vocab.txt").write_text("never read")
    return folder


def hpdv2(folder: Path) -> Path:
    (folder / "benchmark").mkdir(parents=True)
    for style in ("anime", "photo"):
        (folder / "benchmark" / f"{style}.json").write_text(json.dumps(["a cat", "a red dog", "a dog"]))
    return folder
