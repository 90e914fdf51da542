"""The published repositories at tiny size, file by file as the hub has them, beside files that nobody should read."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import original_layout
import torch
from diffusers import FluxTransformer2DModel
from peers import OpenCLIP, TimmViT, imagereward_checkpoint, tiny_open_clip
from safetensors.torch import save_file
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForQuestionAnswering,
    BlipTextConfig,
    BlipVisionConfig,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    Gemma2Model,
    T5EncoderModel,
)

from mira_pl.backbones import SDXL, StableDiffusion
from mira_pl.rewards.clip import AestheticHead
from mira_pl.rewards.imagereward import Scorer
from mira_pl.world.tokens import MAX_TOKENS, build_tokenizer

MODELS = ("sd", "sdxl", "pixart", "sd3", "schnell", "sana")
REVISION = "0" * 40
UNREAD = (
    "pytorch_model.bin", "diffusion_pytorch_model.bin", "model.fp16.safetensors", "flax_model.msgpack",
    "diffusion_pytorch_model.fp16.safetensors", "diffusion_flax_model.msgpack", "preprocessor_config.json",
)  # fmt: skip


def repositories(models: Mapping[str, Path], made: Path) -> dict[str, Path]:
    """Folders by hub id, data sets under "datasets/", from the folders of tiny `MODELS`."""
    torch.manual_seed(0)
    copies = {name: Path(shutil.copytree(folder, made / name)) for name, folder in models.items()}
    xl = with_unread(with_words(copies["sdxl"]))
    found = {
        "stable-diffusion-v1-5/stable-diffusion-v1-5": with_unread(with_words(copies["sd"])),
        "stabilityai/stable-diffusion-xl-base-1.0": xl,
        "stabilityai/sdxl-turbo": xl,
        "madebyollin/sdxl-vae-fp16-fix": Path(shutil.copytree(xl / "vae", made / "vae")),
        "us/checkpoints": checkpoints(models["sd"], models["sdxl"], made / "checkpoints"),
        "us/style": lora(made / "style", "pytorch_lora_weights.safetensors"),
        "us/loras": lora(made / "loras", "sd15/detail.safetensors"),
        "PixArt-alpha/PixArt-XL-2-1024-MS": with_unread(sharded(copies["pixart"], "text_encoder", T5EncoderModel)),
        "PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512": student(models["pixart"], made / "student"),
        "stabilityai/stable-diffusion-3.5-medium": with_unread(sd3(copies["sd3"])),
        "black-forest-labs/FLUX.1-schnell": with_unread(flux(copies["schnell"])),
        "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": with_unread(sana(copies["sana"])),
        "openai/clip-vit-large-patch14": with_unread(clip(made / "clip-l", 768)),
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": with_unread(clip(made / "clip-h", 16)),
        "yuvalkirstain/PickScore_v1": with_unread(clip(made / "pick", 16)),
        "xswu/HPSv2": hpsv2(made / "hps"),
        "THUDM/ImageReward": imagereward(made / "imagereward"),
        "Salesforce/blip-vqa-base": with_unread(blip_vqa(made / "blip_vqa")),
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


def with_words(folder: Path, *names: str) -> Path:
    """CLIP's tokenizers (none: all) as diffusers' folders have them: words and merges, no tokenizer.json."""
    for place in [folder / name for name in names] or folder.glob("tokenizer*"):
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


def sharded(folder: Path, name: str, kind: Any) -> Path:
    """Large networks are published in shards."""
    network = kind.from_pretrained(folder / name)
    shutil.rmtree(folder / name)
    network.save_pretrained(folder / name, max_shard_size="2KB")
    assert len(list((folder / name).glob("*.safetensors"))) > 1
    return folder


def with_original_words(folder: Path, name: str, words: str) -> Path:
    """A tokenizer whose SentencePiece model lies beside its tokenizer.json."""
    (folder / name / words).write_text("never read")
    (folder / name / "special_tokens_map.json").write_text("{}")
    return folder


def sd3(folder: Path) -> Path:
    with_original_words(sharded(folder, "text_encoder_3", T5EncoderModel), "tokenizer_3", "spiece.model")
    return with_words(folder, "tokenizer", "tokenizer_2")


def flux(folder: Path) -> Path:
    with_original_words(sharded(folder, "text_encoder_2", T5EncoderModel), "tokenizer_2", "spiece.model")
    return with_words(sharded(folder, "transformer", FluxTransformer2DModel), "tokenizer")


def sana(folder: Path) -> Path:
    return with_original_words(sharded(folder, "text_encoder", Gemma2Model), "tokenizer", "tokenizer.model")


def checkpoints(sd: Path, sdxl: Path, folder: Path) -> Path:
    """Whole models in one file each, one of them in a folder, and another file."""
    (folder / "xl").mkdir(parents=True)
    original_layout.write(folder / "v1-5.safetensors", original_layout.sd1(StableDiffusion(str(sd), steps=2)))
    original_layout.write(folder / "xl" / "xl.safetensors", original_layout.xl(SDXL(str(sdxl), steps=2)))
    (folder / "v1-5-pruned.safetensors").write_text("never read")
    return folder


def lora(folder: Path, name: str) -> Path:
    """One layer of the U-Net, and another file."""
    (folder / name).parent.mkdir(parents=True)
    layer = "unet.mid_block.attentions.0.proj_in"
    pair = {f"{layer}.lora_A.weight": torch.randn(2, 16), f"{layer}.lora_B.weight": torch.randn(16, 2)}
    save_file(pair, folder / name)
    (folder / "model.safetensors").write_text("never read")
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


def blip_vqa(folder: Path) -> Path:
    """With the real number of words: the answers are asked for by their numbers."""
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = tower | {"vocab_size": 30524, "encoder_hidden_size": 32, "is_decoder": True, "max_position_embeddings": 64}
    config = BlipConfig(text_config=text, vision_config=tower | {"image_size": 32, "patch_size": 16})
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = BlipForQuestionAnswering(config)
        for parameter in model.parameters():  # norms at 1 and biases at 0 would hide a mix-up
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "green", "bench", "blue", "bowl", "cat", "?", "bow"]
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}).save_pretrained(folder)
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
