"""What every backbone must keep to: one suite, run for each of them."""

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mira_pl.backbones import (
    SDXL,
    Backbone,
    FlowMixture,
    Flux,
    MixtureBackbone,
    PixArt,
    Sana,
    StableDiffusion,
    StableDiffusion3,
)
from mira_pl.diffusion import transition
from mira_pl.types import Compute

PROMPTS = ["a cat", "a red dog", ""]


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class BackboneConformance:
    """Subclasses give a `backbone` fixture, nothing else."""

    def test_shapes_and_dtypes(self, backbone: Backbone) -> None:
        x, condition = randn(3, *backbone.latent_shape), backbone.encode(PROMPTS)
        assert backbone.noise_shape == (backbone.schedule.steps + 1, *backbone.latent_shape)
        assert (
            condition.positive.tokens.shape == condition.negative.tokens.shape and len(condition.positive.tokens) == 3
        )
        guided = backbone.predict(x, 0, condition)
        for part in (guided.eps, guided.x0, backbone.denoise(x, torch.tensor([1, 500, 999]), condition)):
            assert part.shape == x.shape and part.dtype == torch.float32
            assert torch.isfinite(part).all()
        images = backbone.decode(x)
        assert images.shape[:2] == (3, 3) and images.dtype == torch.float32

    def test_batch_equals_singles(self, backbone: Backbone) -> None:
        x, condition = randn(3, *backbone.latent_shape), backbone.encode(PROMPTS)
        timesteps = torch.tensor([1, 500, 999])
        for index, prompt in enumerate(PROMPTS):
            single, alone = slice(index, index + 1), backbone.encode([prompt])
            torch.testing.assert_close(alone.positive.tokens, condition.positive.tokens[single], atol=1e-5, rtol=1e-5)
            for step in range(backbone.schedule.steps):
                together = backbone.eps(x, step, condition)[single]
                torch.testing.assert_close(backbone.eps(x[single], step, alone), together, atol=2e-5, rtol=1e-4)
            together = backbone.denoise(x, timesteps, condition)[single]
            torch.testing.assert_close(
                backbone.denoise(x[single], timesteps[single], alone), together, atol=1e-5, rtol=1e-4
            )
            torch.testing.assert_close(backbone.decode(x[single]), backbone.decode(x)[single], atol=1e-5, rtol=1e-4)

    def test_both_parts_make_up_the_latents(self, backbone: Backbone) -> None:
        """x = sqrt(abar) x_0 + sqrt(1 - abar) eps."""
        x, condition = randn(3, *backbone.latent_shape), backbone.encode(PROMPTS)
        for step, alpha in enumerate(backbone.schedule.alpha):
            prediction = backbone.predict(x, step, condition)
            whole = alpha**0.5 * prediction.x0 + (1 - alpha) ** 0.5 * prediction.eps
            torch.testing.assert_close(whole, x, atol=1e-4, rtol=1e-4)

    def test_guidance_adds_the_prompts_part(self, backbone: Backbone) -> None:
        """eps_u + w pull, where eps_u + pull is the prediction without guidance."""
        x, condition = randn(3, *backbone.latent_shape), backbone.encode(PROMPTS)
        for step in range(backbone.schedule.steps):
            plain, (seen, pull) = backbone.predict(x, step, condition), backbone.guided(x, step, condition)
            assert torch.equal(seen.eps, plain.eps) and torch.equal(seen.x0, plain.x0)
            scale, backbone.guidance = backbone.guidance, 1.0
            alone = backbone.predict(x, step, condition)
            backbone.guidance = scale
            torch.testing.assert_close((scale - 1) * pull, plain.eps - alone.eps, atol=2e-5, rtol=1e-4)
            assert scale > 1 or (pull == 0).all()

    def test_predictions_are_deterministic(self, backbone: Backbone) -> None:
        x, condition = randn(3, *backbone.latent_shape), backbone.encode(PROMPTS)
        first = backbone.eps(x, 1, condition)
        torch.manual_seed(99)
        assert torch.equal(first, backbone.eps(x, 1, condition))
        assert torch.equal(condition.positive.tokens, backbone.encode(PROMPTS).positive.tokens)

    def test_the_noise_level_matters(self, backbone: Backbone) -> None:
        x, condition = randn(3, *backbone.latent_shape), backbone.encode(PROMPTS)
        assert not torch.allclose(
            backbone.eps(x, 0, condition), backbone.eps(x, backbone.schedule.steps - 1, condition)
        )

    def test_gradients_reach_the_latents_and_nothing_else(self, backbone: Backbone) -> None:
        x, condition = randn(3, *backbone.latent_shape).requires_grad_(), backbone.encode(PROMPTS)
        (backbone.eps(x, 0, condition).sum() + backbone.decode(x).sum()).backward()
        assert x.grad is not None and (x.grad != 0).any()
        assert not condition.positive.tokens.requires_grad and not condition.negative.tokens.requires_grad
        modules = [part for part in vars(backbone).values() if isinstance(part, torch.nn.Module)]
        assert all(not module.training for module in modules)
        assert all(not p.requires_grad and p.grad is None for module in modules for p in module.parameters())

    def test_alpha_is_that_of_the_schedule(self, backbone: Backbone) -> None:
        assert torch.equal(backbone.alpha(torch.tensor(backbone.schedule.timesteps).long()), backbone.schedule.alpha)
        assert (backbone.alpha(torch.arange(1000)).diff() < 0).all()

    def test_calls_are_counted(self, backbone: Backbone) -> None:
        x, condition = randn(3, *backbone.latent_shape), backbone.encode(PROMPTS)
        before = backbone.spent
        backbone.denoise(x, torch.tensor([1, 500, 999]), condition)
        backbone.decode(x)
        assert backbone.spent - before == Compute(unet=1, vae=1)

    def test_repeated_condition(self, backbone: Backbone) -> None:
        x, condition = randn(3, *backbone.latent_shape), backbone.encode(PROMPTS)
        twice = backbone.eps(x.repeat(2, 1, 1, 1), 0, condition.repeat(2))
        torch.testing.assert_close(twice[3:], backbone.eps(x, 0, condition), atol=2e-5, rtol=1e-4)

    def test_moving_returns_the_backbone(self, backbone: Backbone) -> None:
        assert backbone.to("cpu") is backbone


class FlowConformance(BackboneConformance):
    """Flows begin at pure noise and run between the timesteps of training."""

    def test_alpha_is_that_of_the_schedule(self, backbone: Backbone) -> None:
        levels = backbone.schedule.alpha
        assert levels[0] == 0 and backbone.schedule.alpha_prev[-1] == 1
        assert backbone.alpha(torch.tensor([0, 1000])).tolist() == [1, 0]
        assert (backbone.alpha(torch.arange(1000)).diff() < 0).all()
        grid = torch.tensor(backbone.schedule.timesteps)
        below, above = backbone.alpha(grid.ceil().long()), backbone.alpha(grid.floor().long())
        assert (below <= levels + 1e-6).all() and (levels <= above + 1e-6).all()

    def test_the_first_step_is_of_one_batch_or_many(self, backbone: Backbone) -> None:
        """There eps is x itself: only where the step leads shows what was predicted."""
        x, condition = randn(3, *backbone.latent_shape), backbone.encode(PROMPTS)
        together = transition(backbone.predict(x, 0, condition), backbone.schedule, 0).mean
        for index, prompt in enumerate(PROMPTS):
            single = slice(index, index + 1)
            alone = transition(backbone.predict(x[single], 0, backbone.encode([prompt])), backbone.schedule, 0).mean
            torch.testing.assert_close(alone, together[single], atol=2e-5, rtol=1e-4)
        assert not torch.allclose(together, x * backbone.schedule.alpha_prev[0] ** 0.5)


class TestSingleGaussian(BackboneConformance):
    @pytest.fixture
    def backbone(self) -> MixtureBackbone:
        return MixtureBackbone(randn(1, 4, 2, 2), torch.tensor([0.7]), torch.ones(1), steps=3)

    def test_standard_normal_data_is_predicted_in_closed_form(self) -> None:
        """eps = sqrt(1 - abar) x."""
        backbone = MixtureBackbone(torch.zeros(1, 4, 2, 2), torch.ones(1), torch.ones(1), steps=3)
        x = randn(2, 4, 2, 2)
        for step in range(3):
            expected = (1 - backbone.schedule.alpha[step]) ** 0.5 * x
            torch.testing.assert_close(backbone.eps(x, step, backbone.encode(["", ""])), expected)


class TestMixture(BackboneConformance):
    @pytest.fixture
    def backbone(self) -> MixtureBackbone:
        return MixtureBackbone(randn(3, 4, 2, 2), torch.tensor([0.5, 0.3, 0.8]), torch.tensor([0.3, 0.3, 0.4]), steps=3)

    @pytest.mark.parametrize("timestep", [1, 250, 999])
    def test_score_is_the_gradient_of_the_log_density(self, backbone: MixtureBackbone, timestep: int) -> None:
        x = randn(5, 4, 2, 2, seed=1).double().requires_grad_()
        alpha = backbone.alpha(torch.tensor(timestep)).double()
        spread = (alpha * backbone.stds.double() ** 2 + 1 - alpha).sqrt().view(-1, 1, 1, 1)
        parts = torch.distributions.Normal(alpha.sqrt() * backbone.means.double(), spread)
        log_density = torch.logsumexp(
            parts.log_prob(x[:, None]).flatten(2).sum(2) + backbone.weights.double().log(), dim=1
        )
        (score,) = torch.autograd.grad(log_density.sum(), x)
        eps = backbone.denoise(x.detach(), torch.full((5,), timestep), backbone.encode([""] * 5))
        torch.testing.assert_close(eps, -((1 - alpha) ** 0.5) * score, atol=1e-7, rtol=1e-6)

    def test_far_from_every_component_it_stays_finite(self, backbone: MixtureBackbone) -> None:
        assert torch.isfinite(backbone.eps(1e4 * randn(1, 4, 2, 2), 2, backbone.encode([""]))).all()


class TestFlowMixture(FlowConformance):
    @pytest.fixture
    def backbone(self) -> FlowMixture:
        return FlowMixture(randn(3, 4, 2, 2), torch.tensor([0.5, 0.3, 0.8]), torch.tensor([0.3, 0.3, 0.4]), steps=3)


class TestStableDiffusion(BackboneConformance):
    @pytest.fixture(params=[5.0, 1.0], ids=["guided", "unguided"])
    def backbone(self, request: pytest.FixtureRequest, tiny_sd: Path) -> StableDiffusion:
        return StableDiffusion(str(tiny_sd), steps=3, guidance=request.param)

    def test_half_precision_is_for_the_weights_alone(self, tiny_sd: Path) -> None:
        half, full = (
            StableDiffusion(str(tiny_sd), steps=3, guidance=1.0, dtype=dtype) for dtype in ("bfloat16", "float32")
        )
        x = randn(3, 4, 4, 4)
        assert all(
            p.dtype == torch.bfloat16 for part in (half.denoiser, half.vae, half.text) for p in part.parameters()
        )
        for ours, expected in (
            (half.eps(x, 0, half.encode(PROMPTS)), full.eps(x, 0, full.encode(PROMPTS))),
            (half.decode(x), full.decode(x)),
        ):
            assert ours.dtype == torch.float32
            torch.testing.assert_close(ours, expected, atol=0.1, rtol=0.1)

    def test_prompts_matter(self, backbone: StableDiffusion) -> None:
        x = randn(1, 4, 4, 4)
        cat, dog = (backbone.eps(x, 0, backbone.encode([prompt])) for prompt in PROMPTS[:2])
        assert (cat - dog).abs().max() > 1e-3

    def test_guidance_is_linear_in_its_scale(self, tiny_sd: Path) -> None:
        """eps_u + w (eps_c - eps_u)."""
        x = randn(1, 4, 4, 4)
        once, thrice, five = (StableDiffusion(str(tiny_sd), steps=3, guidance=w) for w in (1.0, 3.0, 5.0))
        predictions = [b.eps(x, 1, b.encode(["a cat"])) for b in (once, thrice, five)]
        torch.testing.assert_close(
            predictions[1] - predictions[0], predictions[2] - predictions[1], atol=1e-4, rtol=1e-3
        )
        unguided = once.denoise(x, torch.tensor([once.schedule.timesteps[1]]), once.encode(["a cat"]))
        assert torch.equal(predictions[0], unguided)

    def test_the_empty_prompt_feels_no_guidance(self, tiny_sd: Path) -> None:
        x, guided, plain = (
            randn(1, 4, 4, 4),
            StableDiffusion(str(tiny_sd), steps=3),
            StableDiffusion(str(tiny_sd), steps=3, guidance=1.0),
        )
        torch.testing.assert_close(
            guided.eps(x, 0, guided.encode([""])), plain.eps(x, 0, plain.encode([""])), atol=1e-5, rtol=1e-5
        )

    def test_a_prompt_that_is_cut_is_told(self, tiny_sd: Path, caplog: pytest.LogCaptureFixture) -> None:
        backbone = StableDiffusion(str(tiny_sd), steps=3)
        with caplog.at_level(logging.WARNING, logger="mira_pl"):
            long = backbone.encode(["a cat " * 20]).positive.tokens
        assert "StableDiffusion reads 24 tokens" in caplog.text
        assert long.shape == backbone.encode(["a cat"]).positive.tokens.shape

    def test_decode_divides_by_the_scaling_factor(self, tiny_sd: Path) -> None:
        backbone, x = StableDiffusion(str(tiny_sd), steps=3), randn(1, 4, 4, 4)
        assert torch.equal(backbone.decode(x), backbone.vae.decode(x / 0.5).sample)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"guidance": 0.5}, r"guidance must be a finite number of at least 1 \(1 turns it off\), got 0\.5"),
            ({"steps": 0}, r"steps must be in 1\.\.999, got 0"),
            ({"eta": 2.0}, r"eta must be in \[0, 1\], got 2\.0"),
        ],
    )
    def test_impossible_settings_are_refused(self, tiny_sd: Path, options: dict[str, float], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            StableDiffusion(str(tiny_sd), **options)


class TestSDXL(BackboneConformance):
    @pytest.fixture(params=["ddim", "lcm", "turbo"])
    def backbone(self, request: pytest.FixtureRequest, tiny_sdxl: Path) -> SDXL:
        if request.param == "turbo":
            return SDXL(str(tiny_sdxl), steps=2, guidance=1.0, sampler="euler_ancestral")
        return SDXL(str(tiny_sdxl), steps=3, sampler=request.param)


class TestPixArt(BackboneConformance):
    @pytest.fixture
    def backbone(self, tiny_pixart: Path) -> PixArt:
        return PixArt(str(tiny_pixart), steps=3)


class TestStableDiffusion3(FlowConformance):
    @pytest.fixture(params=[4.5, 1.0], ids=["guided", "unguided"])
    def backbone(self, request: pytest.FixtureRequest, tiny_sd3: Path) -> StableDiffusion3:
        return StableDiffusion3(str(tiny_sd3), steps=3, guidance=request.param)


class TestFlux(FlowConformance):
    @pytest.fixture
    def backbone(self, tiny_flux: Path) -> Flux:
        return Flux(str(tiny_flux), steps=3, guidance=3.5 if "dev" in tiny_flux.name else 1.0, size=8)


class TestSana(FlowConformance):
    @pytest.fixture
    def backbone(self, tiny_sana: Path) -> Sana:
        return Sana(str(tiny_sana), steps=3)


@pytest.mark.parametrize("flow", [StableDiffusion3, Flux, Sana])
def test_half_precision_is_for_the_weights_of_flows_alone(flow: type, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue({StableDiffusion3: "tiny_sd3", Flux: "tiny_schnell", Sana: "tiny_sana"}[flow])
    options = {"steps": 3, "guidance": 1.0} | ({"size": 8} if flow is Flux else {})
    half, full = (flow(str(folder), dtype=dtype, **options) for dtype in ("bfloat16", "float32"))
    parts = (half.denoiser, half.vae, *half.encoders)
    assert all(p.dtype == torch.bfloat16 for part in parts for p in part.parameters())
    x = randn(3, *half.latent_shape)
    ours, expected = (backbone.predict(x, 1, backbone.encode(PROMPTS)) for backbone in (half, full))
    for left, right in ((ours.x0, expected.x0), (ours.eps, expected.eps), (half.decode(x), full.decode(x))):
        assert left.dtype == torch.float32
        assert (left - right).abs().mean() < 0.05 * right.std()
