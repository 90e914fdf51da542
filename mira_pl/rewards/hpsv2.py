"""HPSv2: a CLIP ViT-H/14 tuned on people's choices, distributed in open_clip's layout (Wu et al. 2023)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel
from typing_extensions import Self

from ..hub import Need, layouts, ready
from ..hub.loading import last_line, layout_of, load_state_dict
from ..hub.need import read_json
from ..types import Images, PerJob
from .base import Reward
from .towers import ClipTowers, in_use, load_tokenizer, tokenizer_need, tokenizer_of

REPOSITORY = "xswu/HPSv2"
DESCRIPTION = "open_clip_config.json"
FILES = {"2.0": "HPS_v2_compressed.pt", "2.1": "HPS_v2.1_compressed.pt"}
VIT_H_14: dict[str, Any] = {
    "embed_dim": 1024,
    "vision_cfg": {"image_size": 224, "layers": 32, "width": 1280, "head_width": 80, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 1024, "heads": 16, "layers": 24},
}
"""open_clip's own configuration of ViT-H-14, which the checkpoint does not carry."""

WHOLE = {
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.proj": "visual_projection.weight",
}
MODULES = {
    "token_embedding": "text_model.embeddings.token_embedding",
    "ln_final": "text_model.final_layer_norm",
    "visual.conv1": "vision_model.embeddings.patch_embedding",
    "visual.ln_pre": "vision_model.pre_layrnorm",  # transformers' own spelling
    "visual.ln_post": "vision_model.post_layernorm",
}
IN_BLOCK = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
PARTS = "|".join(map(re.escape, ("attn.in_proj", *IN_BLOCK)))
BLOCK = re.compile(rf"(visual\.)?transformer\.resblocks\.(\d+)\.({PARTS})[._](weight|bias)")
TOWER_BLOCK = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)")


class HPSv2(Reward):
    """Cosine of image and prompt, without CLIP's scale: about 0.2 to 0.35. Versions 2.0 and 2.1 share no scale.

    Args:
        model: `emoji` (packaged), a hub id or local folder with the checkpoint, or the checkpoint itself (.pt,
            .safetensors). A folder may hold open_clip's `open_clip_config.json`; without it the model is ViT-H-14.
        version: which checkpoint of a folder; a model of one file has no other. The paper's base value of 0.278 is
            that of 2.0; ReNO took 2.1.
        tokenizer: `emoji`, hub id or local folder; None is that of ViT-H/14, or of the packaged model.
    """

    differentiable: ClassVar[bool] = True

    def __init__(
        self, model: str = REPOSITORY, version: Literal["2.0", "2.1"] = "2.0", tokenizer: str | None = None
    ) -> None:
        needs = self.needs(model, version, tokenizer)
        files = {path.name: path for path in ready(needs["checkpoint"]).files.values()}
        (file,) = (path for name, path in files.items() if name != DESCRIPTION)

        def load() -> ClipTowers:
            described = DESCRIPTION in files
            clip = load_open_clip(file, read_json(files[DESCRIPTION])["model_cfg"] if described else VIT_H_14)
            return ClipTowers(clip, load_tokenizer(needs["tokenizer"], clip), square="pad")

        self.clip = in_use(str(file), needs["tokenizer"].source, load)

    @staticmethod
    def needs(model: str, version: str, tokenizer: str | None, **_: Any) -> dict[str, Need]:
        checkpoint = layouts.checkpoint(layouts.source_of(model, "hpsv2"), FILES[version], optional=(DESCRIPTION,))
        refuse_other_version(model, version, checkpoint)
        return {"checkpoint": checkpoint, "tokenizer": tokenizer_need(tokenizer or tokenizer_of(model))}

    def score(self, images: Images, prompts: Sequence[str]) -> PerJob:
        """In [-1, 1]; prompts longer than the text tower are truncated."""
        return (self.clip.embed_images(images) * self.clip.embed_texts(prompts)).sum(dim=-1)

    def to(self, device: torch.device) -> Self:
        """Moves the CLIP in place."""
        self.clip.to(device)
        return self


def refuse_other_version(model: str, version: str, checkpoint: Need) -> None:
    """`version` chooses among the files of a folder; a model of one file, as the packaged one, has none but its own.

    Raises:
        ValueError: 2.1 is asked for, and the file is not it; 2.0 may just be the default.
    """
    for file in checkpoint.look().files.values():
        if version != "2.0" and file.name not in (FILES[version], DESCRIPTION):
            raise ValueError(f"HPSv2 {model!r} has no version {version}, it is {file.name}: leave version out")


def clip_config(architecture: Mapping[str, Any]) -> CLIPConfig:
    """transformers' configuration of an open_clip `model_cfg`, with plain GELU as ViT-H-14 has it."""
    text, vision, width = architecture["text_cfg"], architecture["vision_cfg"], architecture["embed_dim"]
    shared = {"projection_dim": width, "hidden_act": "gelu"}
    return CLIPConfig(
        text_config=shared
        | {
            "hidden_size": text["width"],
            "intermediate_size": 4 * text["width"],
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "vocab_size": text["vocab_size"],
            "max_position_embeddings": text["context_length"],
            "bos_token_id": text["vocab_size"] - 2,
            "eos_token_id": text["vocab_size"] - 1,  # the end of text is the last word of open_clip's vocabulary
        },
        vision_config=shared
        | {
            "hidden_size": vision["width"],
            "intermediate_size": 4 * vision["width"],
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision.get("head_width", 64),
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
        },
        projection_dim=width,
    )


def load_open_clip(file: Path, architecture: Mapping[str, Any]) -> CLIPModel:
    """The frozen fp32 CLIPModel with the weights of a checkpoint in open_clip's layout.

    Raises:
        ValueError: the file cannot be read, or holds another architecture.
    """
    weights = load_state_dict(file, unused="attn_mask")  # a buffer of older checkpoints
    with torch.device("meta"):
        clip = CLIPModel(clip_config(architecture))
    try:
        clip.load_state_dict(from_open_clip(weights), assign=True)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{file} holds {layout_of(weights)}, not an open_clip checkpoint of this architecture: {last_line(error)}"
        ) from error
    _make_positions(clip)
    return clip.float().eval().requires_grad_(False)


def from_open_clip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names and shapes of transformers' CLIPModel for a state dict in open_clip's layout.

    Raises:
        ValueError: a name is none of open_clip's.
    """
    mapped: dict[str, Tensor] = {}
    for key, value in weights.items():
        module, _, kind = key.rpartition(".")
        if key in WHOLE:
            transposed = key in ("text_projection", "visual.proj")
            mapped[WHOLE[key]] = value.T.contiguous() if transposed else value
        elif block := BLOCK.fullmatch(key):
            mapped |= _block(block, value)
        elif module in MODULES:
            mapped[f"{MODULES[module]}.{kind}"] = value
        else:
            raise ValueError(f"no CLIP of open_clip has a tensor {key!r}")
    return mapped


def _block(match: re.Match[str], value: Tensor) -> dict[str, Tensor]:
    visual, layer, part, kind = match.groups()
    stem = f"{'vision' if visual else 'text'}_model.encoder.layers.{layer}"
    if part == "attn.in_proj":
        names = ("q_proj", "k_proj", "v_proj")
        return {f"{stem}.self_attn.{n}.{kind}": v for n, v in zip(names, value.chunk(3), strict=True)}
    return {f"{stem}.{IN_BLOCK[part]}.{kind}": value}


def to_open_clip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `from_open_clip`."""
    names = {ours: theirs for theirs, ours in WHOLE.items()}
    modules = {ours: theirs for theirs, ours in MODULES.items()}
    parts = {ours: theirs for theirs, ours in IN_BLOCK.items()}
    mapped: dict[str, Tensor] = {}
    for key, value in weights.items():
        module, _, kind = key.rpartition(".")
        if key in names:
            transposed = names[key] in ("text_projection", "visual.proj")
            mapped[names[key]] = value.T.contiguous() if transposed else value
        elif module in modules:
            mapped[f"{modules[module]}.{kind}"] = value
        elif block := TOWER_BLOCK.fullmatch(module):
            tower, layer, part = block.groups()
            stem = f"{'visual.' if tower == 'vision' else ''}transformer.resblocks.{layer}"
            if part in parts:
                mapped[f"{stem}.{parts[part]}.{kind}"] = value
            elif part == "self_attn.q_proj":
                others = (weights[f"{module[:-6]}{name}_proj.{kind}"] for name in "kv")
                mapped[f"{stem}.attn.in_proj_{kind}"] = torch.cat([value, *others])
    return mapped


def open_clip_architecture(config: CLIPConfig) -> dict[str, Any]:
    """open_clip's `model_cfg` of a transformers configuration: the inverse of `clip_config`."""
    text: Any = config.text_config
    vision: Any = config.vision_config
    return {
        "embed_dim": config.projection_dim,
        "vision_cfg": {
            "image_size": vision.image_size,
            "layers": vision.num_hidden_layers,
            "width": vision.hidden_size,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            "patch_size": vision.patch_size,
        },
        "text_cfg": {
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "width": text.hidden_size,
            "heads": text.num_attention_heads,
            "layers": text.num_hidden_layers,
        },
    }


def _make_positions(clip: CLIPModel) -> None:
    """Position indices are no weights: a model that was built on the meta device has none yet."""
    towers: Any = clip.text_model, clip.vision_model
    for tower in towers:
        count = tower.embeddings.position_embedding.num_embeddings
        tower.embeddings.position_ids = torch.arange(count).expand(1, -1)
