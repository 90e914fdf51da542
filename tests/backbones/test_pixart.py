"""PixArt draws what diffusers' pipeline draws from the same seeds."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel
from transformers import T5Tokenizer

from mira_pl.backbones import PixArt
from mira_pl.hub.loading import load_part
from mira_pl.noise import draw
from mira_pl.trajectory import sample
from mira_pl.types import Job


@pytest.mark.parametrize("guidance", [4.5, 1.0])
@torch.no_grad()
def test_images_are_those_of_the_diffusers_pipeline(tiny_pixart: Path, jobs: list[Job], guidance: float) -> None:
    backbone = PixArt(str(tiny_pixart), steps=5, eta=1.0, guidance=guidance)
    path = sample(backbone, backbone.encode([job.prompt for job in jobs]), draw(jobs, backbone.noise_shape))
    pipeline = PixArtAlphaPipeline.from_pretrained(tiny_pixart)
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, clip_sample=False, timestep_spacing="leading"
    )
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        [job.prompt for job in jobs],
        generator=[torch.Generator().manual_seed(job.seed) for job in jobs],
        num_inference_steps=5, guidance_scale=guidance, eta=1.0, height=8, width=8, output_type="pt",
        use_resolution_binning=False, clean_caption=False,
    ).images  # fmt: skip
    torch.testing.assert_close((path.images / 2 + 0.5).clamp(0, 1), expected, atol=1e-5, rtol=1e-5)
    assert path.images.std() > 0.01


@torch.no_grad()
def test_the_dmd_student_predicts_x0_at_400(tiny_pixart: Path, tmp_path: Path, jobs: list[Job]) -> None:
    student = tmp_path / "student"  # published without text encoder and VAE
    for part in ("transformer", "scheduler"):
        shutil.copytree(tiny_pixart / part, student / part)
    backbone = PixArt(str(tiny_pixart), guidance=1.0, one_step_at=400, student=str(student))
    condition, noise = backbone.encode([job.prompt for job in jobs]), draw(jobs, backbone.noise_shape)
    path = sample(backbone, condition, noise)
    x, alpha = noise[:, -1], backbone.alphas_cumprod[400]
    eps = backbone.denoise(x, torch.full((len(jobs),), 400), condition)
    torch.testing.assert_close(path.latents, (x - (1 - alpha).sqrt() * eps) / alpha.sqrt())
    assert backbone.schedule.steps == 1 and not backbone.schedule.stochastic


def test_padding_is_not_seen(tiny_pixart: Path) -> None:
    backbone = PixArt(str(tiny_pixart), steps=2)
    text = backbone.encode(["a red cat"]).positive
    assert text.mask is not None and int(text.mask.sum()) == 4 and text.mask.shape == (1, 120)
    changed = backbone.encode(["a red cat"])
    changed.positive.tokens[:, 4:] = 7.0
    x = torch.randn(1, *backbone.latent_shape, generator=torch.Generator().manual_seed(0))
    original = backbone.encode(["a red cat"])
    torch.testing.assert_close(backbone.eps(x, 0, changed), backbone.eps(x, 0, original), atol=1e-6, rtol=1e-5)


def test_full_size_has_the_parameters_of_pixart() -> None:
    """The published configuration of PixArt-XL-2-512x512, on the meta device."""
    with torch.device("meta"):
        transformer = PixArtTransformer2DModel(
            sample_size=64, num_layers=28, num_attention_heads=16, attention_head_dim=72, in_channels=4,
            out_channels=8, cross_attention_dim=1152, caption_channels=4096,
        )  # fmt: skip
    assert sum(parameter.numel() for parameter in transformer.parameters()) == 610_856_096


def test_a_timestep_beyond_training_is_refused(tiny_pixart: Path) -> None:
    with pytest.raises(ValueError, match=r"one_step_at must be in 0\.\.999, got 1000"):
        PixArt(str(tiny_pixart), one_step_at=1000)


def test_the_vocabulary_comes_as_a_sentencepiece_file(tmp_path: Path) -> None:
    """As it is published: without tokenizer.json."""
    sentencepiece = pytest.importorskip("sentencepiece")
    (tmp_path / "tokenizer").mkdir()
    text = tmp_path / "text.txt"
    text.write_text("a white cat and a red dog\nthe blue bird is on a tree\n" * 200)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "tokenizer" / "spiece"), vocab_size=20, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    tokenizer = load_part(T5Tokenizer.from_pretrained, PixArt.needs(str(tmp_path), None)["tokenizer"])
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer" / "spiece.model"))
    assert tokenizer("a white dog").input_ids == [*theirs.encode("a white dog"), theirs.eos_id()]
