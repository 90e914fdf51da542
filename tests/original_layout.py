"""Stable Diffusion's networks by the tensor names of their authors' code: CompVis's U-Net and VAE, OpenCLIP's tower.

Written from the structure of those networks (openaimodel.py, diffusionmodules/model.py, open_clip/transformer.py), a
module at a time; the loader goes the other way, through diffusers' tables.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextModelWithProjection

from mira_pl.backbones import SDXL, StableDiffusion

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def tensors(module: nn.Module, name: str) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for key, value in module.state_dict().items()}


def renamed(module: nn.Module, name: str, names: dict[str, str]) -> dict[str, Tensor]:
    """The children of a module that the table names; a child it lacks is left out."""
    children = dict(module.named_modules())
    found = {}
    for ours, theirs in names.items():
        found |= tensors(children[ours], f"{name}.{theirs}") if ours in children else {}
    return found


def compvis_unet(unet: Any, prefix: str = "model.diffusion_model") -> dict[str, Tensor]:
    """input_blocks, middle_block and output_blocks, lists of (ResBlock, SpatialTransformer, Upsample)."""
    ends = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
    ends |= {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2"}
    ends |= {"add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
    found, number = renamed(unet, prefix, ends), 1
    for block in unet.down_blocks:
        number = _level(found, block, f"{prefix}.input_blocks", number)
        if block.downsamplers:
            found |= tensors(block.downsamplers[0].conv, f"{prefix}.input_blocks.{number}.0.op")
            number += 1
    middle = unet.mid_block
    for index, part in enumerate((middle.resnets[0], middle.attentions[0], middle.resnets[1])):
        name = f"{prefix}.middle_block.{index}"
        found |= tensors(part, name) if index == 1 else renamed(part, name, RESNET)
    number = 0
    for block in unet.up_blocks:
        number = _level(found, block, f"{prefix}.output_blocks", number)
        if block.upsamplers:  # in the list of the level's last ResBlock, after its attention
            place = 2 if _attentions(block) else 1
            found |= tensors(block.upsamplers[0].conv, f"{prefix}.output_blocks.{number - 1}.{place}.conv")
    return found


def _attentions(block: Any) -> list[nn.Module]:
    return [*dict(block.named_children()).get("attentions", [])]


def _level(found: dict[str, Tensor], block: Any, name: str, number: int) -> int:
    """Adds the ResBlocks of one resolution and their attention; the next block's number."""
    attentions = _attentions(block)
    for index, resnet in enumerate(block.resnets):
        found |= renamed(resnet, f"{name}.{number + index}.0", RESNET)
        if attentions:
            found |= tensors(attentions[index], f"{name}.{number + index}.1")
    return number + len(block.resnets)


def compvis_vae(vae: Any, prefix: str = "first_stage_model") -> dict[str, Tensor]:
    """Encoder and decoder; the decoder counts levels from the finest, and attention is 1 x 1 convolutions."""
    found = renamed(vae, prefix, {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"})
    for side, blocks, sample in (("encoder", "down_blocks", "down"), ("decoder", "up_blocks", "up")):
        half, name = vae.get_submodule(side), f"{prefix}.{side}"
        found |= renamed(half, name, {"conv_in": "conv_in", "conv_norm_out": "norm_out", "conv_out": "conv_out"})
        for index, resnet in enumerate(half.mid_block.resnets, start=1):
            found |= _vae_resnet(resnet, f"{name}.mid.block_{index}")
        found |= _vae_attention(half.mid_block.attentions[0], f"{name}.mid.attn_1")
        levels = list(half.get_submodule(blocks))
        for level, block in enumerate(levels if side == "encoder" else levels[::-1]):
            for index, resnet in enumerate(block.resnets):
                found |= _vae_resnet(resnet, f"{name}.{sample}.{level}.block.{index}")
            for changer in (block.downsamplers if side == "encoder" else block.upsamplers) or []:
                found |= tensors(changer.conv, f"{name}.{sample}.{level}.{sample}sample.conv")
    return found


def _vae_resnet(resnet: Any, name: str) -> dict[str, Tensor]:
    same = {part: part for part in ("norm1", "conv1", "norm2", "conv2")}
    return renamed(resnet, name, same | {"conv_shortcut": "nin_shortcut"})


def _vae_attention(attention: Any, name: str) -> dict[str, Tensor]:
    linear = renamed(attention, name, {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"})
    convolutions = {key: value[:, :, None, None] if value.dim() == 2 else value for key, value in linear.items()}
    return convolutions | renamed(attention, name, {"group_norm": "norm"})


def tower(text: Any) -> Any:
    """The transformer itself, which some versions of transformers wrap."""
    return text.text_model if any(key.startswith("text_model.") for key in text.state_dict()) else text


def hf_clip(text: Any, prefix: str) -> dict[str, Tensor]:
    """transformers' own names, with the old buffer of positions."""
    name = f"{prefix}.transformer.text_model"
    positions = torch.arange(text.config.max_position_embeddings)[None]
    return tensors(tower(text), name) | {f"{name}.embeddings.position_ids": positions}


def open_clip(text: Any, prefix: str) -> dict[str, Tensor]:
    """OpenCLIP's tower: queries, keys and values in one matrix, the projection [width, projected]."""
    place, name, width = tower(text), f"{prefix}.model", text.config.hidden_size
    found = renamed(place, name, {"final_layer_norm": "ln_final"})
    found[f"{name}.token_embedding.weight"] = place.embeddings.token_embedding.weight
    found[f"{name}.positional_embedding"] = place.embeddings.position_embedding.weight
    found[f"{name}.logit_scale"] = torch.tensor(4.6)
    for index, layer in enumerate(place.encoder.layers):
        block, attention = f"{name}.transformer.resblocks.{index}", layer.self_attn
        found |= renamed(layer, block, OPEN_CLIP)
        three = (attention.q_proj, attention.k_proj, attention.v_proj)
        found[f"{block}.attn.in_proj_weight"] = torch.cat([part.weight for part in three])
        found[f"{block}.attn.in_proj_bias"] = torch.cat([part.bias for part in three])
    projects = isinstance(text, CLIPTextModelWithProjection)
    found[f"{name}.text_projection"] = text.text_projection.weight.T if projects else torch.ones(width, width)
    return found


def sd1(backbone: StableDiffusion) -> dict[str, Tensor]:
    """All of a Stable Diffusion 1.x."""
    body = compvis_unet(backbone.denoiser) | compvis_vae(backbone.vae)
    return body | hf_clip(backbone.text, "cond_stage_model")


def xl(backbone: SDXL) -> dict[str, Tensor]:
    """All of an SDXL."""
    body = compvis_unet(backbone.denoiser) | compvis_vae(backbone.vae)
    body |= hf_clip(backbone.encoders[0], "conditioner.embedders.0")
    return body | open_clip(backbone.encoders[1], "conditioner.embedders.1")


def write(path: Path, weights: dict[str, Tensor]) -> Path:
    """One file, with the schedule and the counters that lie in every one beside the weights."""
    extra = {"betas": torch.ones(3), "model_ema.decay": torch.ones(())}
    save_file({key: value.detach().clone().contiguous() for key, value in (weights | extra).items()}, path)
    return path
