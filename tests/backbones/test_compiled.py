"""Compiled denoisers and other layouts: what eager ones compute, gradients included."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from compilers import NEEDS_COMPILER, without_compiler
from torch import Tensor

from mira_pl.backbones import SDXL, Flux, PixArt, Sana, StableDiffusion, StableDiffusion3
from mira_pl.backbones.base import Backbone
from mira_pl.backbones.compiled import VARIANTS, blocks
from mira_pl.backbones.latent import LatentDiffusion
from mira_pl.drift import ScoreEnergy
from mira_pl.memory import step_bytes
from mira_pl.noise import draw
from mira_pl.trajectory import Engine, sample
from mira_pl.types import Job

KINDS: dict[str, Callable[..., LatentDiffusion]] = {
    "sd": StableDiffusion, "sdxl": SDXL, "pixart": PixArt, "sd3": StableDiffusion3, "schnell": Flux, "sana": Sana,
}  # fmt: skip
REPEATED = {"sd": 4, "sdxl": 4, "pixart": 2, "sd3": 2, "schnell": 2, "sana": 2}
"""Transformer blocks of the tiny models."""


def make(kind: str, request: pytest.FixtureRequest, **options: object) -> LatentDiffusion:
    few = {"guidance": 1.0, "size": 8} if kind == "schnell" else {}
    return KINDS[kind](str(request.getfixturevalue(f"tiny_{kind}")), steps=3, **few, **options)


def passes(backbone: Backbone, jobs: list[Job], engine: Engine) -> list[Tensor]:
    """Latents, energies, and the gradient of both in the noise."""
    noise = draw(jobs, backbone.noise_shape).requires_grad_()
    path = sample(backbone, backbone.encode([job.prompt for job in jobs]), noise, [ScoreEnergy()], engine)
    (path.latents.sum() + path.energies.sum()).backward()
    return [path.latents.detach(), path.energies.detach(), noise.grad]


@pytest.mark.parametrize("kind", KINDS)
def test_every_denoiser_has_blocks_that_repeat(kind: str, request: pytest.FixtureRequest) -> None:
    denoiser = make(kind, request).denoiser
    found = blocks(denoiser)
    assert len(found) == REPEATED[kind]
    if denoiser._repeated_blocks:
        assert {type(block).__name__ for block in found} == set(denoiser._repeated_blocks)


@NEEDS_COMPILER
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_compiled(kind: str, request: pytest.FixtureRequest) -> None:
    """By default nothing; of the parts that are asked for, the calls, once they happen."""
    parts = {how: make(kind, request, compile=how).denoiser for how in ("none", "regional", "full", "graphs")}
    touched = {how: [m for m in part.modules() if m._compiled_call_impl is not None] for how, part in parts.items()}
    assert touched["none"] == [] and touched["regional"] == blocks(parts["regional"])
    assert touched["full"] == [parts["full"]] and touched["graphs"] == [parts["graphs"]]
    assert torch._dynamo.config.cache_size_limit >= VARIANTS


@NEEDS_COMPILER
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "how", "engines"),
    [
        ("sd", "regional", [Engine("walk"), Engine("checkpoint", 1), Engine("full")]),
        ("pixart", "graphs", [Engine("walk", 1)]),  # on a CPU the same as full
    ],
)
def test_compiled_denoisers_compute_the_same(
    kind: str, how: str, engines: list[Engine], jobs: list[Job], request: pytest.FixtureRequest
) -> None:
    eager, fast = make(kind, request), make(kind, request, compile=how)
    for engine in engines:
        for found, expected in zip(passes(fast, jobs, engine), passes(eager, jobs, engine), strict=True):
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-4)
    assert fast.spent == eager.spent
    condition, noise = eager.encode([job.prompt for job in jobs]), draw(jobs, eager.noise_shape)
    assert 0 < step_bytes(fast, condition, noise) < 1.05 * step_bytes(eager, condition, noise)


@NEEDS_COMPILER
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_graph_breaks(
    kind: str, jobs: list[Job], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A break would raise. Traced with a gradient and without; once more for batches of all other sizes."""
    graphs = []

    def trace(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=trace))
    eager, whole = make(kind, request), make(kind, request, compile="full")
    expected = passes(eager, jobs, Engine("walk"))
    for found, value in zip(passes(whole, jobs, Engine("walk")), expected, strict=True):
        torch.testing.assert_close(found, value, atol=2e-5, rtol=2e-4)
    assert len(graphs) == 2
    for count in (2, 1):
        passes(whole, jobs[:count], Engine("walk"))
    assert len(graphs) <= (4 if whole.guidance > 1 else 6)  # a batch of one picture is always a graph of its own
    parts = make(kind, request, compile="regional")
    for found, value in zip(passes(parts, jobs, Engine("walk")), expected, strict=True):
        torch.testing.assert_close(found, value, atol=2e-5, rtol=2e-4)


def test_graphs_give_tensors_of_their_own(tiny_sd: Path, jobs: list[Job]) -> None:
    """The next replay overwrites what the last one gave."""
    backbone, given = StableDiffusion(str(tiny_sd), steps=3, guidance=1.0), torch.zeros(3, 4, 4, 4)
    backbone.run = lambda *_: given
    x, condition = torch.ones(3, 4, 4, 4), backbone.encode([job.prompt for job in jobs])
    timestep, alpha = torch.ones(3, dtype=torch.long), backbone.schedule.alpha[0]
    assert backbone.output(x, timestep, alpha, condition.positive) is given
    backbone.compile = "graphs"
    assert backbone.output(x, timestep, alpha, condition.positive) is not given


@NEEDS_COMPILER
def test_a_compiled_denoiser_shows_no_attention(tiny_sd: Path) -> None:
    backbone = StableDiffusion(str(tiny_sd), steps=3, compile="regional")
    assert not backbone.shows_attention
    with pytest.raises(ValueError, match="StableDiffusion gives no attention maps: take StableDiffusion, neither"):
        backbone.eps_and_attention(torch.zeros(1, 4, 4, 4), 0, backbone.encode(["a cat"]))


@pytest.mark.slow
def test_without_a_compiler_it_is_one_line(tmp_path: Path) -> None:
    flags = ["--model.backbone.init_args.compile", "full", "--wandb.mode", "disabled", "--out", str(tmp_path / "run")]
    done = without_compiler("fit", *flags)
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert done.stderr.strip().splitlines()[-1] == (
        "mira_pl: compile needs a C++ compiler, and none is here: install g++, or give compile: none"
    )


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_channels_last_computes_the_same(kind: str, jobs: list[Job], request: pytest.FixtureRequest) -> None:
    plain, last = make(kind, request), make(kind, request, channels_last=True)
    seen = []
    last.denoiser.conv_in.register_forward_hook(lambda *call: seen.append(call[-1]))
    for engine in (Engine("walk"), Engine("full")):
        for found, expected in zip(passes(last, jobs, engine), passes(plain, jobs, engine), strict=True):
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-4)
    assert seen and all(output.is_contiguous(memory_format=torch.channels_last) for output in seen)
    assert not plain.denoiser.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
