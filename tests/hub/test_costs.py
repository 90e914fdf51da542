"""Memory and operations of the table, counted again: published networks at full size, packaged ones as they are."""

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import architectures as real
from benchmarks.counts import META, RandomBLIPVQA, decode, look, score, step
from benchmarks.models import RandomImageReward, Weights
from mira_pl.assets import packaged
from mira_pl.backbones import PixArt, StableDiffusion
from mira_pl.backbones.latent import checkpointed
from mira_pl.backbones.pixart import LONGEST
from mira_pl.fit.duration import REPEATED
from mira_pl.hub.published import PUBLISHED, Cost
from mira_pl.memory import step_bytes
from mira_pl.noise import draw
from mira_pl.rewards import CLIPScore, HPSv2, PickScore
from mira_pl.types import Job

T5, CLIP = 256, 77  # tokens
TURBO: dict[str, Any] = {"student": "emoji", "steps": 1, "guidance": 1.0, "sampler": "euler_ancestral"}
DIT: dict[str, Any] = {"one_step_at": 999, "guidance": 1.0}
Parts = dict[str, Callable[[], Cost]]


def published(build: Callable[..., Any], count: Callable[..., Cost], *how: int, **shape: int) -> Callable[[], Cost]:
    """The count of a network that is built at full size."""

    def counted() -> Cost:
        with META:
            network = build(**shape)
        return count(network, *how)

    return counted


def imagereward() -> Cost:
    reward = RandomImageReward(Weights("real", META))
    return score(reward, reward.scorer)


def blip_vqa() -> Cost:
    with META:
        reward = RandomBLIPVQA()
    return score(reward, reward.blip)


STEPS: Parts = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": published(real.unet, step, 64, CLIP),
    "stabilityai/stable-diffusion-xl-base-1.0": published(real.unet_xl, step, 128, CLIP),
    "stabilityai/sdxl-turbo": published(real.unet_xl, step, 64, CLIP, side=64),
    "PixArt-alpha/PixArt-XL-2-512x512": published(real.pixart, step, 64, LONGEST),
    "stabilityai/stable-diffusion-3.5-medium": published(real.sd35_medium, step, 128, CLIP + T5),
    "stabilityai/stable-diffusion-3.5-large": published(real.sd35_large, step, 128, CLIP + T5),
    "black-forest-labs/FLUX.1-dev": published(real.flux_dev, step, 128, 512),
    "black-forest-labs/FLUX.1-schnell": published(real.flux_schnell, step, 64, 256),
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": published(real.sana, step, 32, 300),
    str(packaged("emoji")): lambda: step(StableDiffusion().denoiser, 16, 24),
    str(packaged("emoji_turbo")): lambda: step(StableDiffusion(**TURBO).denoiser, 16, 24),
    str(packaged("emoji_dit")): lambda: step(PixArt("emoji", **DIT).denoiser, 16, LONGEST),
}
DECODES: Parts = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": published(real.vae, decode, 64),
    "stabilityai/stable-diffusion-xl-base-1.0": published(real.vae, decode, 128),
    "stabilityai/stable-diffusion-3.5-medium": published(real.vae_16, decode, 128),
    "black-forest-labs/FLUX.1-schnell": published(real.vae_16, decode, 64),
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": published(real.dc_ae, decode, 32),
    str(packaged("emoji")): lambda: decode(StableDiffusion(checkpoint_vae=False).vae, 16),
    str(packaged("emoji_dit")): lambda: decode(PixArt("emoji", **DIT, checkpoint_vae=False).vae, 16),
}
SCORES: Parts = {
    "openai/clip-vit-large-patch14": published(real.clip_l, look),
    "xswu/HPSv2": published(real.clip_h, look),
    "THUDM/ImageReward": imagereward,
    "Salesforce/blip-vqa-base": blip_vqa,
    str(packaged("clip")): lambda: look(CLIPScore().clip.model, 64),
    str(packaged("pickscore")): lambda: look(PickScore("emoji").clip.model, 64),
    str(packaged("hpsv2")): lambda: look(HPSv2("emoji").clip.model, 64),
}
CASES = [
    *((source, "step", count) for source, count in STEPS.items()),
    *((source, "decode", count) for source, count in DECODES.items()),
    *((source, "score", count) for source, count in SCORES.items()),
]
NOTHING = Cost(0, 0, 0)


def quick(source: str, part: str) -> bool:
    """Denoisers of real size take long to build."""
    return part != "step" or "emoji" in source


@pytest.mark.parametrize(
    ("source", "part", "count"),
    [
        pytest.param(
            *case, marks=() if quick(*case[:2]) else pytest.mark.slow, id=f"{case[0].split('/')[-1]} {case[1]}"
        )
        for case in CASES
    ],
)
def test_costs_are_those_of_the_network(source: str, part: str, count: Callable[[], Cost]) -> None:
    said, found = getattr(PUBLISHED[source], part), count()
    assert (said.kept, said.forward, said.backward) == pytest.approx(
        (found.kept, found.forward, found.backward), rel=0.005
    )


def test_every_cost_of_the_table_is_counted() -> None:
    """Of one of the models that share it."""
    counted = {getattr(PUBLISHED[source], part) for source, part, _ in CASES}
    said = {cost for known in PUBLISHED.values() for cost in (known.step, known.decode, known.score)}
    assert said - counted == {NOTHING, None}


@pytest.mark.parametrize("options", [{"guidance": 1.0}, {"guidance": 5.0}, TURBO])
def test_the_count_of_a_step_is_what_a_step_keeps(options: dict[str, Any]) -> None:
    """Alive, on the CPU, in float32; with guidance twice as much."""
    backbone = StableDiffusion(**options)
    live = step_bytes(backbone, backbone.encode(["a cat"]), draw([Job("a cat", 0, "cat")], backbone.noise_shape))
    known = PUBLISHED[str(packaged("emoji_turbo" if "student" in options else "emoji"))].step
    assert known is not None
    assert live / 1e9 == pytest.approx(2 * known.kept * (2 if backbone.guidance > 1 else 1), rel=0.01)


@pytest.mark.parametrize("packed", [False, True])
def test_a_checkpointed_decoder_computes_its_share_again(packed: bool) -> None:
    """At least what `doctor` counts, and never all of it."""
    with META:
        plain = (lambda: StableDiffusion(checkpoint_vae=False).vae) if packed else real.vae
    side = 16 if packed else 64
    whole, again = decode(plain(), side), decode(checkpointed(plain(), True), side)
    assert REPEATED < (again.backward - whole.backward) / whole.forward < 1
