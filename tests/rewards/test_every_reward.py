"""What every reward must keep to: one suite, run for each of them, on pictures of the emoji world.

Aesthetic, CLIPScore, HPSv2 and PickScore are the packaged ones; ImageReward and BLIP-VQA are small, random, and of the
real classes.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import published
import pytest
import torch
from torch import Tensor, nn

import mira_pl.rewards
from mira_pl.rewards import (
    BLIPVQA,
    Aesthetic,
    BlackBox,
    Brightness,
    CLIPScore,
    Darkness,
    HPSv2,
    ImageReward,
    JPEGSize,
    PickScore,
    Reward,
    Term,
    Weighted,
)
from mira_pl.rewards.towers import ClipTowers
from mira_pl.world.render import Renderer
from mira_pl.world.scenes import generator, sample_scenes

MAKE: dict[str, Callable[[Path], Reward]] = {
    "Aesthetic": lambda _: Aesthetic(),
    "BLIPVQA": lambda folder: BLIPVQA(str(published.blip_vqa(folder / "blip_vqa"))),
    "BlackBox": lambda _: BlackBox(CLIPScore()),
    "Brightness": lambda _: Brightness(),
    "CLIPScore": lambda _: CLIPScore(),
    "Darkness": lambda _: Darkness(),
    "HPSv2": lambda _: HPSv2("emoji"),
    "ImageReward": lambda folder: ImageReward(
        str(published.imagereward(folder / "imagereward")), str(published.bert(folder / "bert"))
    ),
    "JPEGSize": lambda _: JPEGSize(),
    "PickScore": lambda _: PickScore("emoji"),
    "Weighted": lambda _: Weighted([Term(CLIPScore(), 0.01), Term(Aesthetic(), 0.1), Term(HPSv2("emoji"), 5.0)]),
}
RAW = ("Brightness", "Darkness")
"""Those that count what lies beyond white and black."""

SHARE = 0.1
"""How far bfloat16 may move a score, in standard deviations between pictures. It rounds to 2^-9, and a dozen layers of
independent roundings come to about 1 % of an embedding; measured on 64 pictures: at most 0.04."""

COSINE = 0.998
"""Least cosine of the gradient in bfloat16 with that in float32, of every picture: an error of 6 % of its length.
Measured on 64 pictures: 0.9995."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reward]:
    torch.manual_seed(0)
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in MAKE.items()}


@pytest.fixture(params=MAKE)
def reward(request: pytest.FixtureRequest, made: dict[str, Reward]) -> Reward:
    return made[request.param]


@pytest.fixture(scope="module")
def scenes() -> tuple[Tensor, list[str]]:
    """Eight pictures of the world with their captions."""
    drawn = sample_scenes(8, generator(7, 0))
    return Renderer()(drawn), drawn.captions


def networks(part: object) -> Iterator[nn.Module]:
    """Every one that a reward holds, however deep."""
    if isinstance(part, nn.Module):
        yield part
    elif isinstance(part, Reward | Term | ClipTowers):
        yield from networks(list(vars(part).values()))
    elif isinstance(part, list):
        for inner in part:
            yield from networks(inner)


def gradient(reward: Reward, images: Tensor, prompts: list[str], mixed: bool = False) -> Tensor:
    """Of the sum of the scores; with `mixed`, as Lightning has it: autocast on the way there, none on the way back."""
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        scores = reward.score(images, prompts)
    return torch.autograd.grad(scores.sum(), images)[0]


def test_no_reward_is_left_out() -> None:
    assert set(MAKE) == set(mira_pl.rewards.__all__) - {"Reward", "Term"}


def test_gradients_reach_every_picture_and_nothing_else(reward: Reward, scenes: tuple[Tensor, list[str]]) -> None:
    images, prompts = scenes[0].clone().requires_grad_(), scenes[1]
    scores = reward.score(images, prompts)
    assert scores.shape == (8,) and torch.isfinite(scores).all()
    assert scores.requires_grad == reward.differentiable
    if reward.differentiable:
        scores.sum().backward()
        assert images.grad is not None and torch.isfinite(images.grad).all()
        assert (images.grad.abs().amax(dim=(1, 2, 3)) > 0).all()
    for network in networks(reward):
        assert not any(part.training for part in network.modules())
        assert not any(p.requires_grad or p.grad is not None for p in network.parameters())


def test_networks_are_found_by_the_test_above(made: dict[str, Reward]) -> None:
    """It would pass on a reward in which it found none."""
    without = {name for name, reward in made.items() if not list(networks(reward))}
    assert without == {"Brightness", "Darkness", "JPEGSize"}


def test_a_batch_is_its_pictures_one_by_one(reward: Reward, scenes: tuple[Tensor, list[str]]) -> None:
    images, prompts = scenes
    together = reward.score(images, prompts)
    alone = [reward.score(images[i : i + 1], prompts[i : i + 1]) for i in range(8)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)
    assert together.std() > 1e-4


def test_beyond_white_and_black(reward: Reward, scenes: tuple[Tensor, list[str]]) -> None:
    """As a decoder gives them; whoever looks through a model sees the picture that would be saved."""
    images, prompts = 1.7 * scenes[0] + 0.2, scenes[1]
    assert (images.abs() > 1).float().mean() > 0.2
    scores, clamped = reward.score(images, prompts), reward.score(images.clamp(-1, 1), prompts)
    assert torch.isfinite(scores).all()
    assert torch.allclose(scores, clamped) == (type(reward).__name__ not in RAW)
    if reward.differentiable:
        assert torch.isfinite(gradient(reward, images, prompts)).all()


def test_mixed_precision_agrees_with_full(reward: Reward, scenes: tuple[Tensor, list[str]]) -> None:
    """`trainer.precision: bf16-mixed`, which rounds a network's products to 8 bits and none of our own arithmetic."""
    images, prompts = scenes
    exact = reward.score(images, prompts)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = reward.score(images, prompts)
    assert mixed.dtype == torch.float32
    assert (mixed - exact).abs().max() <= SHARE * exact.std()
    if reward.differentiable:
        sides = (gradient(reward, images, prompts, mixed).flatten(1) for mixed in (True, False))
        cosine = torch.cosine_similarity(*sides)
        assert (cosine >= COSINE).all(), cosine
