"""Memory and precision of the latent backbones: what is kept, where it lies, and in which dtype it is."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.nn.attention import sdpa_kernel

from benchmarks.live_memory import LiveMemory
from mira_pl.backbones import SDXL, Flux, PixArt, Sana, StableDiffusion, StableDiffusion3
from mira_pl.backbones.latent import FUSED, LatentDiffusion, checkpointed, chosen_attention, frozen
from mira_pl.diffusion import from_noise, transition
from mira_pl.drift import ScoreEnergy
from mira_pl.noise import draw
from mira_pl.objectives import MIRA
from mira_pl.problem import Problem
from mira_pl.rewards import Brightness
from mira_pl.trajectory import Engine, sample
from mira_pl.types import Job

Make = Callable[..., LatentDiffusion]


KINDS = {"sd": StableDiffusion, "sdxl": SDXL, "pixart": PixArt, "sd3": StableDiffusion3, "sana": Sana}
KINDS |= {"schnell": partial(Flux, guidance=1.0, size=8)}
every = pytest.mark.parametrize("make", [*KINDS], indirect=True)
every_with_a_kl_vae = pytest.mark.parametrize("make", [name for name in KINDS if name != "sana"], indirect=True)


@pytest.fixture(params=["sd", "sdxl", "pixart"])
def make(request: pytest.FixtureRequest) -> Make:
    return partial(KINDS[request.param], str(request.getfixturevalue(f"tiny_{request.param}")), steps=3)


def vae_of(dtype: torch.dtype = torch.float32, device: str = "cpu", **sizes: Any) -> Any:
    """Four levels as of Stable Diffusion's, narrow unless told otherwise."""
    shape = {"block_out_channels": (8, 16, 32, 32), "norm_num_groups": 8} | sizes
    with torch.device(device), torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2, latent_channels=4, **shape,
        )  # fmt: skip
    return frozen(torch.nn.Module.to(vae, dtype))


def peak(vae: Any, side: int) -> int:
    """Bytes at the worst moment of decoding and the way back."""
    latents = torch.zeros(1, 4, side, side, dtype=vae.dtype, device=vae.device, requires_grad=True)
    with LiveMemory() as memory:
        vae.decode(latents).sample.sum().backward()
    return memory.peak


def test_a_checkpointed_decoder_needs_less_memory() -> None:
    assert peak(checkpointed(vae_of(), True), 16) < 0.6 * peak(checkpointed(vae_of(), False), 16)


def test_at_full_size_it_needs_about_half() -> None:
    """Stable Diffusion's decoder in bfloat16 to 512 x 512, on the meta device."""
    sizes = {"block_out_channels": (128, 256, 512, 512), "norm_num_groups": 32}
    plain, spared = (
        peak(checkpointed(vae_of(torch.bfloat16, "meta", **sizes), wanted), 64) for wanted in (False, True)
    )
    assert 2.8 < plain / 2**30 < 3.1 and 1.4 < spared / 2**30 < 1.6


@every_with_a_kl_vae
def test_its_gradient_is_the_same_bit_for_bit(make: Make, jobs: list[Job]) -> None:
    gradients = []
    for wanted in (True, False):
        backbone = make(dtype="float64", checkpoint_vae=wanted)
        latents = draw(jobs, (1, *backbone.latent_shape))[:, 0].double().requires_grad_()
        images = backbone.decode(latents)
        (images**3).sum().backward()
        gradients.append((images, latents.grad))
        assert backbone.spent.vae == 1
    assert torch.equal(gradients[0][0], gradients[1][0]) and torch.equal(gradients[0][1], gradients[1][1])
    assert gradients[0][1].abs().amin() > 0


@every_with_a_kl_vae
def test_every_backbone_checkpoints_its_decoder_unless_told_not_to(make: Make) -> None:
    assert (
        make().vae.decoder.gradient_checkpointing and not make(checkpoint_vae=False).vae.decoder.gradient_checkpointing
    )


class Visits(list):
    """Where an encoder was sent, and where it was when it encoded."""

    def watch(self, encoder: Any) -> None:
        send = encoder.to

        def to(device: Any) -> Any:
            self.append(("to", str(device)))
            return send("cpu")

        encoder.to = to
        encoder.register_forward_pre_hook(lambda *_: self.append(("encode",)))


@every
def test_encoders_are_on_the_device_only_while_they_encode(make: Make) -> None:
    backbone, visits = make(), Visits()
    for encoder in backbone.encoders:
        visits.watch(encoder)
    backbone.device = torch.device("cpu:0")  # a name of its own, since there is no second device here
    backbone.encode(["a cat", ""])
    count = len(backbone.encoders)
    assert visits[:count] == [("to", "cpu:0")] * count and visits[-count:] == [("to", "cpu")] * count
    assert visits[count:-count] == [("encode",)] * 2 * count


def test_t5_can_stay_on_the_cpu(tiny_pixart: Path) -> None:
    """On the meta device nothing can be encoded and nothing comes back from it."""
    plain = PixArt(str(tiny_pixart), steps=3).encode(["a cat", "a red dog"])
    backbone = PixArt(str(tiny_pixart), steps=3, t5_on_cpu=True)
    stayed = backbone.encode(["a cat", "a red dog"])
    assert torch.equal(stayed.positive.tokens, plain.positive.tokens)
    backbone.to("meta")
    condition = backbone.encode(["a cat", "a red dog"])
    assert all(parameter.device.type == "cpu" for parameter in backbone.encoders[0].parameters())
    assert condition.positive.tokens.device.type == condition.negative.mask.device.type == "meta"
    assert backbone.eps(torch.zeros(2, *backbone.latent_shape, device="meta"), 0, condition).device.type == "meta"


def math_is_allowed() -> bool:
    return torch.backends.cuda.math_sdp_enabled()


def test_on_cuda_attention_is_fused_or_fails() -> None:
    with FakeTensorMode():  # this machine may have no GPU
        x = torch.zeros(1, 4, 64, 64, device="cuda")
    assert math_is_allowed()
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        with chosen_attention(x, dtype):
            assert not math_is_allowed()
            assert torch.backends.cuda.flash_sdp_enabled() and torch.backends.cuda.mem_efficient_sdp_enabled()
    with chosen_attention(x, torch.float64):
        assert math_is_allowed()
    assert math_is_allowed()


def test_on_a_cpu_small_attention_in_bfloat16_is_not_fused() -> None:
    small, large = torch.zeros(1, 8, 16, 16), torch.zeros(1, 4, 64, 64)
    for x, dtype, fused in (
        (small, torch.bfloat16, False),
        (small, torch.float32, True),
        (large, torch.bfloat16, True),
    ):
        with chosen_attention(x, dtype):
            assert math_is_allowed() and torch.backends.cuda.flash_sdp_enabled() is fused


@pytest.mark.parametrize("engine", [Engine("full"), Engine("checkpoint"), Engine("walk")])
def test_the_denoiser_runs_inside_also_when_it_is_computed_again(
    make: Make, jobs: list[Job], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mira_pl.backbones.latent.chosen_attention", lambda x, dtype: sdpa_kernel(FUSED))
    backbone, allowed = make(), []
    backbone.denoiser.register_forward_pre_hook(lambda *_: allowed.append(math_is_allowed()))
    noise = draw(jobs, backbone.noise_shape).requires_grad_()
    sample(backbone, backbone.encode([job.prompt for job in jobs]), noise, [], engine).latents.sum().backward()
    assert allowed == [False] * (3 if engine.name == "full" else 6) and math_is_allowed()


@pytest.mark.parametrize("drift", ["energy", "score_difference", "elbo"])
def test_half_precision_stops_at_the_networks(make: Make, jobs: list[Job], drift: str) -> None:
    """With bfloat16 weights the latents, the measures, the loss and the noise's gradient are float32."""
    backbone, objective = make(dtype="bfloat16"), MIRA(drift=drift)
    assert {p.dtype for part in (backbone.denoiser, backbone.vae) for p in part.parameters()} == {torch.bfloat16}
    problem = Problem.of(backbone, Brightness(), jobs)
    start, noise = draw(jobs, backbone.noise_shape), draw(jobs[::-1], backbone.noise_shape).requires_grad_()
    anchor = objective.loss(problem, start, None, 0).outcome.trajectory.detach()
    loss = objective.loss(problem, noise, anchor, 1)
    path = loss.outcome.trajectory
    found = (loss.value, loss.outcome.reward, path.images, path.latents, path.energies, anchor.eps)
    assert [value.dtype for value in found] == [torch.float32] * len(found)
    loss.value.sum().backward()
    assert noise.grad.dtype == torch.float32 and (noise.grad != 0).any()


@torch.no_grad()
def test_the_samplers_arithmetic_is_that_of_float32(make: Make, jobs: list[Job]) -> None:
    """The latents are, bit for bit, those of the transition applied to the predictions in float32."""
    backbone = make(dtype="bfloat16")
    noise, condition = draw(jobs, backbone.noise_shape), backbone.encode([job.prompt for job in jobs])
    path = sample(backbone, condition, noise, [ScoreEnergy()], keep_eps=True)
    assert path.eps is not None and path.eps.dtype == torch.float32
    x = backbone.schedule.start * noise[:, -1]
    for step, eps in enumerate(path.eps):
        prediction = from_noise(x, eps, backbone.schedule.alpha[step])
        x = transition(prediction, backbone.schedule, step).sample(noise[:, backbone.schedule.steps - 1 - step])
        assert not is_bfloat16(x)
    assert torch.equal(x, path.latents)


def is_bfloat16(x: Tensor) -> bool:
    """Whether no value would change by rounding."""
    return torch.equal(x, x.bfloat16().float())
