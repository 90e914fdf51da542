"""An annealed LoRA: the two models at the ends, NeMo's loop written again with diffusers' scheduler in between."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from test_conformance import BackboneConformance
from torch import Tensor

from mira_pl.backbones import SDXL, StableDiffusion
from mira_pl.backbones.annealed import shares
from mira_pl.backbones.latent import LatentDiffusion
from mira_pl.diffusion import transition
from mira_pl.noise import draw
from mira_pl.objectives import DNO
from mira_pl.problem import Problem
from mira_pl.rewards import Brightness
from mira_pl.trajectory import sample
from mira_pl.types import Compute, Job

PROMPTS = ["a cat", "a red dog"]
JOBS = [Job("a cat", 0, "cat"), Job("a red dog", 1, "dog")]
Make = Callable[..., LatentDiffusion]


def lora(backbone: LatentDiffusion, path: Path, up: float = 0.3, text: bool = False) -> str:
    """A random one of rank 2 for the queries of the U-Net, and of the text encoder if wanted; at `up` 0 it is none."""
    parts = {"unet": backbone.denoiser} | ({"text_encoder": backbone.encoders[0]} if text else {})
    generator, tensors = torch.Generator().manual_seed(0), {}
    for part, network in parts.items():
        for name, layer in network.named_modules():
            if name.endswith(("to_q", "q_proj")):
                rows, columns = layer.weight.shape
                key = f"{part}.{'' if part == 'unet' else 'text_model.'}{name}"
                tensors[f"{key}.lora_A.weight"] = torch.randn(2, columns, generator=generator)
                tensors[f"{key}.lora_B.weight"] = up * torch.randn(rows, 2, generator=generator)
    save_file(tensors, path)
    return str(path)


@pytest.fixture(params=["sd", "sdxl"])
def make(request: pytest.FixtureRequest, tiny_sd: Path, tiny_sdxl: Path) -> Make:
    if request.param == "sd":
        return partial(StableDiffusion, str(tiny_sd), steps=5)
    return partial(SDXL, str(tiny_sdxl), steps=5)


class TestAnnealed(BackboneConformance):
    @pytest.fixture
    def backbone(self, make: Make, tmp_path: Path) -> LatentDiffusion:
        return make(lora=[lora(make(), tmp_path / "lora.safetensors")], anneal="step_0.5")

    def test_calls_are_counted(self, backbone: LatentDiffusion) -> None:
        x, condition = torch.randn(2, *backbone.latent_shape), backbone.encode(PROMPTS)
        before = backbone.spent
        backbone.denoise(x, torch.tensor([1, 999]), condition)
        assert backbone.spent - before == Compute(unet=2)
        backbone.predict(x, 0, condition)
        assert backbone.spent - before == Compute(unet=6)  # two networks, with guidance


def pictures(backbone: LatentDiffusion) -> Tensor:
    noise = draw(JOBS, backbone.noise_shape)
    with torch.no_grad():
        return sample(backbone, backbone.encode(PROMPTS), noise).images


def test_the_ends_are_the_two_models_bit_by_bit(make: Make, tmp_path: Path) -> None:
    file = lora(make(), tmp_path / "lora.safetensors")
    base, tuned = pictures(make()), pictures(make(lora=[file]))
    assert not torch.equal(base, tuned)
    assert torch.equal(pictures(make(lora=[file], anneal=0.0)), base)
    assert torch.equal(pictures(make(lora=[file], anneal=1.0)), tuned)
    assert torch.equal(pictures(make(lora=[file], anneal="step_0")), tuned)
    assert torch.equal(pictures(make(lora=[file], anneal="step_1")), base)


@pytest.mark.parametrize("anneal", ["linear", "power_2", "step_0.6", 0.3])
def test_a_lora_that_changes_nothing_is_the_base_model_under_every_schedule(
    make: Make, tmp_path: Path, anneal: str | float
) -> None:
    none = lora(make(), tmp_path / "lora.safetensors", up=0.0)
    assert torch.equal(pictures(make(lora=[none], anneal=anneal)), pictures(make()))


@pytest.mark.parametrize(
    ("anneal", "share"),
    [("linear", lambda i: i / 5), ("power_2", lambda i: (i / 5) ** 2), ("step_0.6", lambda i: float(i >= 3))],
)
def test_every_step_mixes_what_guidance_made_of_both(
    tiny_sd: Path, tmp_path: Path, anneal: str, share: Callable[[int], float]
) -> None:
    """NeMo's loop: guidance inside each model, then (1 - w_i) base + w_i tuned, then one update by the sampler."""
    options: dict[str, Any] = {"steps": 5, "dtype": "float64"}
    base = StableDiffusion(str(tiny_sd), **options)
    file = lora(base, tmp_path / "lora.safetensors")
    tuned = StableDiffusion(str(tiny_sd), lora=[file], **options)
    ours = StableDiffusion(str(tiny_sd), lora=[file], anneal=anneal, **options)
    noise, condition = draw(JOBS, base.noise_shape).double(), base.encode(PROMPTS)
    scheduler = DDIMScheduler.from_pretrained(tiny_sd / "scheduler")
    scheduler.set_timesteps(5)
    x = noise[:, -1]
    with torch.no_grad():
        for i, timestep in enumerate(scheduler.timesteps):
            mixed = (1 - share(i)) * base.eps(x, i, condition) + share(i) * tuned.eps(x, i, condition)
            x = scheduler.step(mixed, timestep, x, eta=1.0, variance_noise=noise[:, 4 - i]).prev_sample
        torch.testing.assert_close(sample(ours, condition, noise).latents, x, atol=1e-6, rtol=1e-6)


def test_a_constant_share_is_the_geometric_mean_of_both_transitions(make: Make, tmp_path: Path) -> None:
    """DeRaDiff: log q = w log p_tuned + (1 - w) log p_base + constant."""
    file = lora(make(), tmp_path / "lora.safetensors")
    backbones = [make(dtype="float64", lora=[file], anneal=share) for share in (0.0, 1.0, 0.3)]
    x = torch.randn(2, *backbones[0].latent_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        base, tuned, mixed = (transition(b.predict(x, 1, b.encode(PROMPTS)), b.schedule, 1) for b in backbones)
    constants = []
    for seed in range(3):
        somewhere = mixed.mean + torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
        both = 0.3 * tuned.log_prob(somewhere) + 0.7 * base.log_prob(somewhere)
        constants.append(mixed.log_prob(somewhere) - both)
    torch.testing.assert_close(constants[0], constants[1], atol=1e-6, rtol=1e-9)
    torch.testing.assert_close(constants[0], constants[2], atol=1e-6, rtol=1e-9)
    assert constants[0].abs().min() > 1e-4


def test_between_the_steps_it_is_the_nearest_ones_share(tiny_sd: Path, tmp_path: Path) -> None:
    file = lora(StableDiffusion(str(tiny_sd)), tmp_path / "lora.safetensors")
    base, tuned, ours = (
        StableDiffusion(str(tiny_sd), steps=5, **options)
        for options in ({}, {"lora": [file]}, {"lora": [file], "anneal": "step_0.5"})
    )
    assert ours.schedule.timesteps == (801, 601, 401, 201, 1)
    x, condition = torch.randn(4, *base.latent_shape), base.encode(["a cat"] * 4)
    timesteps = torch.tensor([999, 310, 290, 0])  # of steps 0, 2, 3 and 4: the tuned model's from 3 on
    expected = torch.cat([base.denoise(x, timesteps, condition)[:2], tuned.denoise(x, timesteps, condition)[2:]])
    torch.testing.assert_close(ours.denoise(x, timesteps, condition), expected)


def test_noise_is_learned_through_it(make: Make, tmp_path: Path) -> None:
    backbone = make(lora=[lora(make(), tmp_path / "lora.safetensors")], anneal="linear")
    problem = Problem(backbone, Brightness(), JOBS, backbone.encode(PROMPTS))
    noise = draw(JOBS, backbone.noise_shape).requires_grad_()
    loss = DNO().loss(problem, noise, None, 0)
    loss.value.sum().backward()
    assert noise.grad is not None and (noise.grad.flatten(2).norm(dim=2) > 0).all()
    assert backbone.spent.backward == backbone.spent.unet == 5 * 2 * 2


def test_half_precision_mixes_in_single(tiny_sd: Path, tmp_path: Path) -> None:
    file = lora(StableDiffusion(str(tiny_sd)), tmp_path / "lora.safetensors")
    ours = [StableDiffusion(str(tiny_sd), steps=5, dtype="bfloat16", lora=[file], anneal=w) for w in (0.0, 1.0, 0.3)]
    x, condition = torch.randn(2, *ours[0].latent_shape), ours[0].encode(PROMPTS)
    base, tuned, mixed = (backbone.denoise(x, torch.tensor([1, 999]), condition) for backbone in ours)
    torch.testing.assert_close(mixed, torch.lerp(base, tuned, 0.3), atol=1e-6, rtol=1e-6)


@given(steps=st.integers(1, 200), power=st.floats(0, 8))
def test_shares_rise_from_the_base_model_and_never_reach_the_tuned_one(steps: int, power: float) -> None:
    power = round(power, 3)
    found = shares(f"power_{power:.3f}", steps)
    assert len(found) == steps and (found.diff() >= 0).all() and (found >= 0).all() and (found <= 1).all()
    torch.testing.assert_close(found[-1], torch.tensor(((steps - 1) / steps) ** power), atol=1e-5, rtol=1e-4)
    assert torch.equal(shares("linear", steps), shares("power_1", steps))


@pytest.mark.parametrize("anneal", ["cosine", "power_", "power_-1", "step_x", "", -0.1, 1.5, float("nan")])
def test_what_is_no_schedule_is_refused(anneal: str | float) -> None:
    with pytest.raises(ValueError, match=r"anneal must be in \[0, 1\], linear, power_P or step_F"):
        shares(anneal, 5)


def test_what_cannot_be_annealed_is_refused(tiny_sd: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="anneal 'linear' goes from the model to the same with a LoRA: name one under"):
        StableDiffusion(str(tiny_sd), anneal="linear")
    file = lora(StableDiffusion(str(tiny_sd)), tmp_path / "lora.safetensors", text=True)
    with pytest.raises(ValueError, match="LoRAs of the U-Net alone, these change text_encoder: leave anneal out"):
        StableDiffusion(str(tiny_sd), lora=[file], anneal="linear")
    backbone = StableDiffusion(str(tiny_sd), lora=[lora(StableDiffusion(str(tiny_sd)), Path(file))], anneal="linear")
    assert not backbone.shows_attention
    with pytest.raises(ValueError, match="neither compiled nor annealed"):
        backbone.eps_and_attention(torch.zeros(1, 4, 4, 4), 0, backbone.encode(["a cat"]))
