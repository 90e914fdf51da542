"""Tiny models of the real classes, jobs, and the check of the maths' shape annotations under pytest."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # of torch, which is imported later, and of the commands that tests start

from jaxtyping import install_import_hook

MATHS = ["types", "noise", "diffusion", "flow", "drift", "trajectory", "problem", "backbones", "objectives", "searches"]
install_import_hook([f"mira_pl.{module}" for module in MATHS], "beartype.beartype")

import signal  # noqa: E402
from pathlib import Path  # noqa: E402
from types import FrameType  # noqa: E402

import pytest  # noqa: E402
import tiny  # noqa: E402
import torch  # noqa: E402
from diffusers import (  # noqa: E402
    DPMSolverMultistepScheduler,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (  # noqa: E402
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
)

from mira_pl.types import Job  # noqa: E402


def pytest_sessionstart(session: pytest.Session) -> None:
    """SIGTERM ends the run. Lightning, while it fits, would make one failed test of it and let the others go on."""

    def end(number: int, frame: FrameType | None) -> None:
        session.shouldstop = "terminated"  # should the test catch what is raised here
        pytest.exit("terminated", returncode=128 + number)

    signal.signal(signal.SIGTERM, end)


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Stable Diffusion in diffusers layout: latents [4, 4, 4], images [3, 8, 8]."""
    from mira_pl.backbones.analytic import sd_scheduler
    from mira_pl.world.tokens import build_tokenizer

    folder = tmp_path_factory.mktemp("tiny_sd")
    tokenizer = build_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = {
            "vae": tiny.vae(),
            "unet": _unet(),
            "text_encoder": _text_encoder(len(tokenizer), tokenizer.eos_token_id),
        }
    pipeline = StableDiffusionPipeline(
        **parts, tokenizer=tokenizer, scheduler=sd_scheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def repositories(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Everything that the configs name, single files and LoRAs, at tiny size, by hub id."""
    import published

    models = {name: request.getfixturevalue(f"tiny_{name}") for name in published.MODELS}
    return published.repositories(models, tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="session")
def home(repositories: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache (HF_HOME) that holds all of them, and the prompts that come from elsewhere."""
    import published

    home = tmp_path_factory.mktemp("hf_home")
    for repository, folder in repositories.items():
        published.publish(home, repository, folder)
    (home / "mira_pl").mkdir()
    (home / "mira_pl" / "compbench_color_val.txt").write_text("a red cat and a blue dog\na green fox\n")
    return home


@pytest.fixture
def jobs() -> list[Job]:
    """Three prompt-seeds, not in the order of their seeds."""
    return [Job("a cat", 7, "cat-7"), Job("a red dog", 1, "dog-1"), Job("", 3, "empty-3")]


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


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Latents [4, 4, 4], images [3, 8, 8]; text of width 16 + 24, pooled 12."""
    from mira_pl.backbones.analytic import sd_scheduler
    from mira_pl.world.tokens import build_tokenizer

    folder = tmp_path_factory.mktemp("tiny_sdxl")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=4,
            in_channels=4,
            out_channels=4,
            block_out_channels=(8, 16),
            layers_per_block=1,
            cross_attention_dim=40,
            attention_head_dim=2,
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=12 + 6 * 8,
        )
        pipeline = StableDiffusionXLPipeline(
            vae=tiny.vae(force_upcast=True),
            text_encoder=CLIPTextModel(tiny.text_config(16, 12)),
            text_encoder_2=CLIPTextModelWithProjection(tiny.text_config(24, 12)),
            tokenizer=build_tokenizer(),
            tokenizer_2=build_tokenizer(),
            unet=unet,
            scheduler=sd_scheduler(),
            add_watermarker=False,
        )
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_pixart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Latents [4, 4, 4], images [3, 8, 8]; text of width 16; the transformer also gives a variance."""
    folder = tmp_path_factory.mktemp("tiny_pixart")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = PixArtTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            cross_attention_dim=16,
            sample_size=4,
            patch_size=2,
            caption_channels=16,
        )
        pipeline = PixArtAlphaPipeline(
            tokenizer=tiny.t5_tokenizer(),
            text_encoder=tiny.t5(16),
            vae=tiny.vae(),
            transformer=transformer,
            scheduler=DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
        )
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Latents [4, 8, 8], images [3, 16, 16]; text of width 8 + 16 beside 32, pooled 12 + 12."""
    return tiny.sd3(tmp_path_factory.mktemp("tiny_sd3"))


@pytest.fixture(scope="session")
def tiny_dev(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FLUX that reads guidance and shifts its times by the picture's size; latents of half its side."""
    return tiny.flux(tmp_path_factory.mktemp("tiny_dev"), dev=True)


@pytest.fixture(scope="session")
def tiny_schnell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FLUX that does neither."""
    return tiny.flux(tmp_path_factory.mktemp("tiny_schnell"), dev=False)


@pytest.fixture(scope="session", params=["dev", "schnell"])
def tiny_flux(request: pytest.FixtureRequest) -> Path:
    """Both kinds of FLUX, one after the other."""
    return request.getfixturevalue(f"tiny_{request.param}")


@pytest.fixture(scope="session")
def tiny_sana(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Latents [4, 16, 16], images [3, 32, 32]; text of width 8, a token a letter."""
    return tiny.sana(tmp_path_factory.mktemp("tiny_sana"))
