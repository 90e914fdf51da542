"""Three engines, one gradient: bit-equal, right, and at the calls and the memory that each one promises."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.live_memory import LiveMemory
from mira_pl.backbones.analytic import MixtureBackbone
from mira_pl.backbones.base import Backbone, Condition
from mira_pl.backbones.stable_diffusion import StableDiffusion
from mira_pl.drift import Measure, ScoreDifference, ScoreEnergy
from mira_pl.noise import draw
from mira_pl.trajectory import Engine, Trajectory, sample
from mira_pl.types import Compute, Job, Noise

STEPS = 5
ENGINES = [Engine(name, stored) for name in ("checkpoint", "walk") for stored in (0, 2, STEPS, STEPS + 3)]


def mixture(steps: int = STEPS, side: int = 2, eta: float = 1.0) -> MixtureBackbone:
    means = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    return MixtureBackbone(means, torch.tensor([0.5, 0.3, 0.8]), torch.tensor([0.3, 0.3, 0.4]), steps=steps, eta=eta)


@pytest.fixture(params=["mixture", "stable_diffusion"])
def backbone(request: pytest.FixtureRequest, tiny_sd: Path) -> Backbone:
    return mixture() if request.param == "mixture" else StableDiffusion(str(tiny_sd), steps=STEPS, dtype="float64")


def condition_of(backbone: Backbone, jobs: list[Job]) -> Condition:
    return backbone.encode([job.prompt for job in jobs])


def energies_to(anchor: Trajectory) -> list[Measure]:
    return [ScoreEnergy(), ScoreEnergy("transition", "ddim"), ScoreDifference(anchor.eps)]


def loss_of(path: Trajectory) -> Tensor:
    """Uneven in pixels, and in the measures, so that no error can hide."""
    weights = torch.arange(1, len(path.energies) + 1).to(path.energies)
    return (path.images**3).sum() + torch.cos(3 * path.latents).sum() + (weights[:, None] * path.energies).sum()


def gradient(
    backbone: Backbone,
    jobs: list[Job],
    noise: Noise,
    measures: list[Measure],
    engine: Engine,
    learned: int | None = None,
) -> Tensor:
    leaf = noise.clone().requires_grad_()
    loss_of(sample(backbone, condition_of(backbone, jobs), leaf, measures, engine, learned_steps=learned)).backward()
    return leaf.grad


@pytest.mark.parametrize("learned", [None, 3])
@pytest.mark.parametrize("with_energies", [False, True])
def test_engines_give_the_same_gradient_bit_for_bit(
    backbone: Backbone, jobs: list[Job], with_energies: bool, learned: int | None
) -> None:
    start, noise = draw(jobs, backbone.noise_shape).double(), draw(jobs[::-1], backbone.noise_shape).double()
    anchor = sample(backbone, condition_of(backbone, jobs), start, keep_eps=True)
    measures = energies_to(anchor) if with_energies else []
    expected = gradient(backbone, jobs, noise, measures, Engine("full"), learned)
    assert expected[:, : learned or STEPS + 1].abs().amin(dim=(2, 3, 4)).min() > 0
    for engine in ENGINES:
        assert torch.equal(gradient(backbone, jobs, noise, measures, engine, learned), expected), engine


@pytest.mark.parametrize("mixed", [False, True])
def test_engines_agree_to_the_bit_in_single_and_mixed_precision(tiny_sd: Path, jobs: list[Job], mixed: bool) -> None:
    """What is computed again on the way back is computed as it was: also outside the caller's autocast."""
    backbone = StableDiffusion(str(tiny_sd), steps=STEPS)
    start, noise = draw(jobs, backbone.noise_shape), draw(jobs[::-1], backbone.noise_shape)
    measures = energies_to(sample(backbone, condition_of(backbone, jobs), start, keep_eps=True))
    found = []
    for engine in [Engine("full"), *ENGINES]:
        leaf = noise.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, mixed):
            loss = loss_of(sample(backbone, condition_of(backbone, jobs), leaf, measures, engine))
        loss.backward()
        found.append(leaf.grad)
    for engine, ours in zip(ENGINES, found[1:], strict=True):
        assert torch.equal(ours, found[0]), engine


def test_engines_give_the_same_values(backbone: Backbone, jobs: list[Job]) -> None:
    noise = draw(jobs, backbone.noise_shape).double().requires_grad_()
    paths = [
        sample(backbone, condition_of(backbone, jobs), noise, [ScoreEnergy()], engine, keep_eps=True)
        for engine in [Engine("full"), *ENGINES]
    ]
    for path in paths[1:]:
        for ours, expected in zip(vars(path).values(), vars(paths[0]).values(), strict=True):
            assert torch.equal(ours, expected)
    assert paths[0].eps.shape == (STEPS, *noise[:, 0].shape) and not paths[-1].eps.requires_grad
    detached = paths[0].detach()
    assert not (detached.images.requires_grad or detached.latents.requires_grad or detached.energies.requires_grad)


@pytest.mark.parametrize("engine", [Engine("full"), Engine("checkpoint", 1), Engine("walk", 1)])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_gradient_equals_finite_differences(engine: Engine, eta: float) -> None:
    backbone = mixture(steps=3, side=1, eta=eta)
    job = [Job("", 1, "x")]
    anchor = sample(
        backbone, backbone.encode([""]), draw([Job("", 2, "y")], backbone.noise_shape).double(), keep_eps=True
    )
    measures = [ScoreEnergy(), ScoreEnergy("network", "ddim"), ScoreDifference(anchor.eps)]

    def outputs(noise: Tensor) -> tuple[Tensor, Tensor]:
        path = sample(backbone, backbone.encode([""]), noise, measures, engine)
        return (path.images**3).sum(), path.energies

    noise = draw(job, backbone.noise_shape).double().requires_grad_()
    assert torch.autograd.gradcheck(outputs, (noise,), eps=1e-6, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize(
    ("engine", "again"),
    [
        (Engine("full"), 0),
        *((Engine(name, stored), STEPS - stored) for name in ("checkpoint", "walk") for stored in (0, 2, STEPS)),
    ],
)
@pytest.mark.parametrize("with_energy", [False, True])
def test_denoiser_calls(engine: Engine, again: int, with_energy: bool) -> None:
    backbone, jobs = mixture(), [Job("", 1, "x")]
    noise = draw(jobs, backbone.noise_shape).requires_grad_()
    path = sample(backbone, condition_of(backbone, jobs), noise, [ScoreEnergy()] if with_energy else [], engine)
    assert backbone.spent == Compute(unet=STEPS, vae=1)
    loss_of(path).backward()
    assert backbone.spent == Compute(unet=STEPS, vae=1, backward=STEPS, repeated=again)


def test_guidance_costs_a_second_call(tiny_sd: Path, jobs: list[Job]) -> None:
    for guidance, factor in ((5.0, 2), (1.0, 1)):
        backbone = StableDiffusion(str(tiny_sd), steps=3, guidance=guidance)
        gradient(backbone, jobs, draw(jobs, backbone.noise_shape), [], Engine("checkpoint", 1))
        assert backbone.spent == Compute(unet=3 * factor, vae=1, backward=3 * factor, repeated=2 * factor)


@pytest.mark.parametrize("name", ["full", "checkpoint", "walk"])
def test_cut_steps_are_called_once_and_nothing_is_called_twice_without_grad(name: str) -> None:
    backbone = mixture()
    noise = draw([Job("", 1, "x")], backbone.noise_shape).requires_grad_()
    loss_of(sample(backbone, backbone.encode([""]), noise, [], Engine(name), learned_steps=2)).backward()
    again = {"full": 0, "checkpoint": 2, "walk": 2}[name]
    # The first learned step's x needs no gradient.
    assert backbone.spent == Compute(unet=STEPS, vae=1, backward=1, repeated=again)
    backbone.spent = Compute()
    with torch.no_grad():
        path = sample(backbone, backbone.encode([""]), noise, [], Engine(name))
    assert backbone.spent.unet == STEPS and not path.images.requires_grad


def peak(folder: Path, steps: int, engine: Engine) -> int:
    """Bytes of live tensors at the worst moment of one iteration."""
    backbone = StableDiffusion(str(folder), steps=steps)
    jobs = [Job("a cat", 1, "x")]
    noise, condition = draw(jobs, backbone.noise_shape).requires_grad_(), condition_of(backbone, jobs)
    with LiveMemory() as memory:
        loss_of(sample(backbone, condition, noise, [ScoreEnergy()], engine)).backward()
    return memory.peak


@pytest.mark.parametrize("engine", [Engine("checkpoint"), Engine("walk"), Engine("walk", 2), Engine("full")])
def test_memory_grows_with_the_latents_alone(tiny_sd: Path, engine: Engine) -> None:
    short, long = peak(tiny_sd, 3, engine), peak(tiny_sd, 9, engine)
    latents = 6 * 4 * 4 * 4 * torch.float32.itemsize
    if engine.name == "full":
        assert long - short > 6 * short / 4  # every step keeps its activations
    else:
        assert long - short < 4 * latents  # per step: x, eps, and the gradient of the noise


@pytest.mark.parametrize("name", ["checkpoint", "walk"])
def test_memory_is_that_of_one_step(tiny_sd: Path, name: str) -> None:
    assert peak(tiny_sd, 9, Engine(name)) < 1.3 * peak(tiny_sd, 1, Engine("full"))


def test_nothing_in_the_backbone_learns(tiny_sd: Path, jobs: list[Job]) -> None:
    backbone = StableDiffusion(str(tiny_sd), steps=2)
    gradient(backbone, jobs, draw(jobs, backbone.noise_shape), [ScoreEnergy()], Engine("checkpoint"))
    for part in (backbone.denoiser, backbone.vae, backbone.text):
        assert not part.training
        assert all(not p.requires_grad and p.grad is None for p in part.parameters())


def test_batch_equals_singles(backbone: Backbone, jobs: list[Job]) -> None:
    noise = draw(jobs, backbone.noise_shape).double()
    together = sample(backbone, condition_of(backbone, jobs), noise, [ScoreEnergy()])
    gradients = gradient(backbone, jobs, noise, [ScoreEnergy()], Engine())
    for index, job in enumerate(jobs):
        single = noise[index : index + 1]
        alone = sample(backbone, condition_of(backbone, [job]), single, [ScoreEnergy()])
        torch.testing.assert_close(together.images[index], alone.images[0])
        torch.testing.assert_close(together.energies[:, index], alone.energies[:, 0])
        torch.testing.assert_close(gradients[index], gradient(backbone, [job], single, [ScoreEnergy()], Engine())[0])


@pytest.mark.parametrize("learned", [1, 2, STEPS])
@pytest.mark.parametrize("name", ["full", "checkpoint", "walk"])
def test_learned_steps_cut_the_gradient_and_not_the_values(name: str, learned: int, jobs: list[Job]) -> None:
    """The noises of the last steps learn; x_T never does, even where every step is learned."""
    backbone = mixture()
    noise = draw(jobs, backbone.noise_shape)
    whole = sample(backbone, condition_of(backbone, jobs), noise, [ScoreEnergy()])
    cut = sample(backbone, condition_of(backbone, jobs), noise, [ScoreEnergy()], learned_steps=learned)
    assert torch.equal(whole.images, cut.images) and torch.equal(whole.energies, cut.energies)
    slopes = gradient(backbone, jobs, noise, [ScoreEnergy("transition", "ddim")], Engine(name), learned)
    assert (slopes[:, learned:] == 0).all() and (slopes[:, :learned] != 0).all()


def test_noise_of_another_length_is_refused(jobs: list[Job]) -> None:
    backbone = mixture()
    with pytest.raises(ValueError, match=r"T \+ 1 = 6 maps a job, got 5"):
        sample(backbone, condition_of(backbone, jobs), draw(jobs, (5, *backbone.latent_shape)))
