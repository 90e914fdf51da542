"""A tiny Stable Diffusion of the real classes, jobs, and the check of the maths' shape annotations under pytest."""

from jaxtyping import install_import_hook

MATHS = ["types", "noise", "diffusion", "drift", "trajectory", "problem", "backbones", "objectives"]
install_import_hook([f"mira_pl.{module}" for module in MATHS], "beartype.beartype")

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel  # noqa: E402

from mira_pl.types import Job  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Stable Diffusion in diffusers layout: latents [4, 4, 4], images [3, 8, 8]."""
    from mira_pl.backbones.analytic import sd_scheduler
    from mira_pl.world.tokens import build_tokenizer

    folder = tmp_path_factory.mktemp("tiny_sd")
    tokenizer = build_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = {"vae": _vae(), "unet": _unet(), "text_encoder": _text_encoder(len(tokenizer), tokenizer.eos_token_id)}
    pipeline = StableDiffusionPipeline(
        **parts, tokenizer=tokenizer, scheduler=sd_scheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def jobs() -> list[Job]:
    """Three prompt-seeds, not in the order of their seeds."""
    return [Job("a cat", 7, "cat-7"), Job("a red dog", 1, "dog-1"), Job("", 3, "empty-3")]


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=8,
        scaling_factor=0.5,
    )


def _unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=4,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )


def _text_encoder(words: int, end: int) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=words, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=24, eos_token_id=end,
        )
    )  # fmt: skip
