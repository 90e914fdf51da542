"""Parts of tiny models of the real classes, and the rectified flows among them, in diffusers layout."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from mira_pl.world.tokens import MAX_TOKENS, build_tokenizer

T5_WORDS = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), ("▁", -2.0)]
T5_WORDS += [(f"▁{word}", -1.0) for word in ("a", "cat", "red", "dog", "fox")]
LETTERS = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *"abcdefghijklmnopqrstuvwxyz"]


def vae(**options: object) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=8,
        scaling_factor=0.5,
        **options,
    )


def text_config(width: int, projection: int) -> CLIPTextConfig:
    tokenizer = build_tokenizer()
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=projection,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def t5_tokenizer() -> T5Tokenizer:
    return T5Tokenizer(vocab=T5_WORDS, extra_ids=0)


def t5(width: int) -> T5EncoderModel:
    shape = {"d_model": width, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    return T5EncoderModel(T5Config(vocab_size=len(T5_WORDS), feed_forward_proj="gated-gelu", **shape))


def sd3(folder: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = SD3Transformer2DModel(
            sample_size=8, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=24, pos_embed_max_size=8,
            qk_norm="rms_norm", dual_attention_layers=(0,),
        )  # fmt: skip
        pipeline = StableDiffusion3Pipeline(
            text_encoder=CLIPTextModelWithProjection(text_config(8, 12)),
            text_encoder_2=CLIPTextModelWithProjection(text_config(16, 12)),
            text_encoder_3=t5(32),
            tokenizer=build_tokenizer(),
            tokenizer_2=build_tokenizer(),
            tokenizer_3=t5_tokenizer(),
            transformer=transformer,
            vae=vae(shift_factor=0.1),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )
    pipeline.save_pretrained(folder)
    return folder


def flux(folder: Path, dev: bool) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = FluxTransformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=16, pooled_projection_dim=12, axes_dims_rope=(4, 4, 8), guidance_embeds=dev,
        )  # fmt: skip
        pipeline = FluxPipeline(
            text_encoder=CLIPTextModel(text_config(12, 12)),
            text_encoder_2=t5(16),
            tokenizer=build_tokenizer(),
            tokenizer_2=t5_tokenizer(),
            transformer=transformer,
            vae=vae(shift_factor=0.1),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if dev else 1.0, use_dynamic_shifting=dev),
        )
    pipeline.save_pretrained(folder)
    return folder


def sana(folder: Path) -> Path:
    blocks = {"block_types": ("ResBlock", "EfficientViTBlock"), "block_out_channels": (8, 8)}
    blocks |= {"layers_per_block": (1, 1), "qkv_multiscales": ((), (5,))}
    sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in blocks.items()}
    words = {"vocab_size": len(LETTERS), "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
    flow = {"flow_shift": 3.0, "use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = SanaTransformer2DModel(
            in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=4, num_layers=2,
            num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=8,
            sample_size=16,
        )  # fmt: skip
        pipeline = SanaPipeline(
            tokenizer=GemmaTokenizer(vocab={letter: i for i, letter in enumerate(LETTERS)}, add_bos_token=True),
            text_encoder=Gemma2Model(Gemma2Config(**words, **heads)),
            vae=AutoencoderDC(latent_channels=4, attention_head_dim=2, scaling_factor=0.5, **sides),
            transformer=transformer,
            scheduler=DPMSolverMultistepScheduler(**flow),
        )
    pipeline.save_pretrained(folder)
    return folder
