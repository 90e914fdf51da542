"""What can be said of speed without a card: FLOPs, and copies from the host."""

from dataclasses import replace

import pytest
import torch
from host_waits import HostWaits

from benchmarks.contenders import NAMES, Setting
from benchmarks.flops import PROMPTS, counted, work
from benchmarks.loops import update
from benchmarks.models import MODELS, RandomStableDiffusion, Weights, encode
from mira_pl.backbones.latent import LatentDiffusion
from mira_pl.drift import ScoreEnergy
from mira_pl.objectives import DNO, MIRA, Objective, ReNO
from mira_pl.trajectory import Engine, sample

META = torch.device("meta")
STEPS = 2


def chain_flops(backbone: LatentDiffusion, engine: Engine) -> int:
    """Of a chain and its gradient, without the decoder."""
    condition = encode(backbone, PROMPTS)
    noise = torch.empty(1, *backbone.noise_shape, device=META, requires_grad=True)

    def run() -> None:
        path = sample(backbone, condition, noise, [ScoreEnergy()], engine)
        (path.latents.sum() + path.energies.sum()).backward()

    with torch.no_grad():
        decode = counted(lambda: backbone.decode(torch.empty(1, *backbone.latent_shape, device=META)))
    return counted(run) - decode


@pytest.mark.parametrize(
    ("engine", "again"),
    [(Engine("full"), 0), *((Engine(name, kept), STEPS - kept) for name in ("checkpoint", "walk") for kept in (0, 1))],
)
def test_a_chain_costs_a_backward_pass_and_its_recomputed_steps(engine: Engine, again: int) -> None:
    """(F + B) T and F for every step computed again; so (2F + B) T where nothing is kept. Never one call more."""
    part = work("sd15", "tiny")
    expected = STEPS * (part.forward + part.backward) + again * part.forward
    backbone = RandomStableDiffusion(Weights("tiny", META), STEPS, 5.0)
    assert chain_flops(backbone, engine) == pytest.approx(expected, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["checkpoint", "walk"])
def test_the_real_chain_costs_two_forwards_and_a_backward(name: str) -> None:
    """Of Stable Diffusion 1.5. With frozen weights a backward costs what a forward does, and attention once more."""
    part = work("sd15")
    assert 1.0 < part.backward / part.forward < 1.2
    backbone = RandomStableDiffusion(Weights("real", META), 2, 5.0)
    assert chain_flops(backbone, Engine(name)) == pytest.approx(2 * (2 * part.forward + part.backward), rel=0.01)


def test_weights_that_learn_would_cost_a_second_backward() -> None:
    """The trap that the counts are there for: a forgotten `requires_grad`."""
    backbone = RandomStableDiffusion(Weights("tiny", META), STEPS, 5.0)
    frozen = chain_flops(backbone, Engine("full"))
    backbone.denoiser.requires_grad_(True)
    assert chain_flops(backbone, Engine("full")) > 1.2 * frozen


@pytest.mark.parametrize(("model", "name"), [("sd15", name) for name in NAMES[:4]] + [("turbo", "ours")])
def test_the_reported_flops_are_those_of_an_iteration(model: str, name: str) -> None:
    """`Work.done`, which HFU rests on, against a count of the whole iteration of the contender."""
    setting = Setting(model, min(2, MODELS[model].steps), 2, Weights("tiny", META))
    problem, objective = setting.problem(2), DNO()
    kept = {"full": setting.steps, "ours": 1}.get(name, 0)
    problem = replace(problem, engine=Engine("checkpoint" if name == "ours" else name, kept))
    noise = torch.nn.Parameter(torch.empty(2, *problem.backbone.noise_shape, device=META))
    whole = counted(lambda: objective.loss(problem, noise, None, 0).value.sum().backward())
    assert whole / 2 == pytest.approx(work(model, "tiny").done(setting.steps, setting.steps - kept), rel=0.01)


@pytest.mark.parametrize(
    ("model", "objective", "engine"),
    [
        *((model, MIRA(), Engine("checkpoint")) for model in MODELS),
        ("sd15", MIRA(drift="score_difference"), Engine("walk", 1)),
        ("turbo", ReNO(), Engine("full")),
    ],
)
def test_the_host_never_waits_inside_an_iteration(model: str, objective: Objective, engine: Engine) -> None:
    """Nothing is read from the device, which meta refuses, and nothing is copied to it."""
    setting = Setting(model, min(2, MODELS[model].steps), 2, Weights("tiny", META))
    problem = replace(setting.problem(2), engine=engine)
    noise = torch.nn.Parameter(torch.empty(2, *problem.backbone.noise_shape, device=META))
    optimizer = torch.optim.AdamW([noise], lr=0.01)
    first = update(problem, objective, noise, optimizer, None, 0)  # texts and constants go to the device here
    with HostWaits() as waits:
        update(problem, objective, noise, optimizer, first.outcome.trajectory.detach(), 1)
    assert waits.found == []


def test_waits_are_found() -> None:
    x = torch.empty(3, device=META)
    with HostWaits() as waits:
        x * torch.tensor(2.0)  # travels with the kernel
        x + x.new_full((3,), 1.0)
        assert waits.found == []
        torch.tensor([1.0], device=META)
        x.new_tensor([1.0])
        torch.ones(2).to(META)
    assert waits.found == ["tensor", "new_tensor", "aten._to_copy.default"]
    with pytest.raises(RuntimeError, match="item"):
        bool(x.sum() > 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "share"), [("sd15", 0.0017), ("sdxl", 0.0037), ("turbo", 0.0059), ("pixart", 0.0019)]
)
def test_keeping_keys_and_values_of_the_text_would_save_little(model: str, share: float) -> None:
    """FLOPs of their projections, and of PixArt's of the caption, in those that an iteration needs."""
    chosen = MODELS[model]
    backbone = chosen.backbone(Weights("real", META), chosen.steps, chosen.guidance)
    tokens = encode(backbone, PROMPTS).positive.tokens.shape[1] * (2 if chosen.guidance > 1 else 1)
    layers = [
        layer
        for name, layer in backbone.denoiser.named_modules()
        if name.endswith(("attn2.to_k", "attn2.to_v")) or "caption_projection.linear" in name
    ]
    spent = chosen.steps * sum(2 * tokens * layer.in_features * layer.out_features for layer in layers)
    assert spent / work(model).needed(chosen.steps) == pytest.approx(share, abs=5e-5)
