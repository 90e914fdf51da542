"""Terms of a sum on one CLIP: its image tower runs once, and nothing comes out differently."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mira_pl.rewards import BlackBox, CLIPScore, PickScore, Term, Weighted
from mira_pl.rewards.sharing import SHARED, once, sharing
from mira_pl.rewards.towers import ClipTowers

PROMPTS = ["a cat", "a blue dog", "generate an image of a fox", "a cat and a red apple"]


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The pictures of every run of an image tower."""
    runs: list[Tensor] = []
    embed = ClipTowers._embed_images

    def counted(towers: ClipTowers, images: Tensor) -> Any:
        runs.append(images)
        return embed(towers, images)

    monkeypatch.setattr(ClipTowers, "_embed_images", counted)
    return runs


def gradient(weighted: Weighted, images: Tensor) -> Tensor:
    return torch.autograd.grad(weighted.score(images, PROMPTS).sum(), images)[0]


def test_one_run_with_the_scores_and_gradients_of_two(tiny_clip: Path, images: Tensor, embedded: list[Tensor]) -> None:
    """The second time unshared: each term by itself."""
    terms = [Term(CLIPScore(str(tiny_clip)), 0.1), Term(CLIPScore(str(tiny_clip)), -0.4)]
    images.requires_grad_()
    together, slope = Weighted(terms).score(images, PROMPTS), gradient(Weighted(terms), images)
    assert len(embedded) == 2  # once each for the score and for the gradient
    alone = [Weighted([term]) for term in terms]
    torch.testing.assert_close(together, sum(one.score(images, PROMPTS) for one in alone))
    torch.testing.assert_close(slope, sum(gradient(one, images) for one in alone))


def test_sums_in_sums_share_too(tiny_clip: Path, images: Tensor, embedded: list[Tensor]) -> None:
    inner = Weighted([Term(CLIPScore(str(tiny_clip)), 1.0)])
    Weighted([Term(inner, 1.0), Term(inner, 2.0), Term(CLIPScore(str(tiny_clip)), 1.0)]).score(images, PROMPTS)
    assert len(embedded) == 1


def test_another_clip_is_another_run(tiny_clip: Path, images: Tensor, embedded: list[Tensor]) -> None:
    others = PickScore(str(tiny_clip), str(tiny_clip))  # the same weights, other towers
    Weighted([Term(CLIPScore(str(tiny_clip)), 1.0), Term(others, 1.0)]).score(images, PROMPTS)
    assert len(embedded) == 2


@pytest.mark.parametrize("first", [True, False])
def test_a_black_box_does_not_take_the_gradient_away(tiny_clip: Path, images: Tensor, first: bool) -> None:
    open_, closed = CLIPScore(str(tiny_clip)), BlackBox(CLIPScore(str(tiny_clip)))
    terms = [Term(closed, 1.0), Term(open_, 1.0)] if first else [Term(open_, 1.0), Term(closed, 1.0)]
    images.requires_grad_()
    torch.testing.assert_close(gradient(Weighted(terms), images), gradient(Weighted([Term(open_, 1.0)]), images))


def test_nothing_is_kept(tiny_clip: Path, images: Tensor, embedded: list[Tensor]) -> None:
    """Pictures that are changed in place between two calls are embedded anew, and a failure leaves nothing behind."""
    weighted = Weighted([Term(CLIPScore(str(tiny_clip)), 1.0)])
    before = weighted.score(images, PROMPTS)
    images.neg_()
    assert not torch.allclose(before, weighted.score(images, PROMPTS)) and len(embedded) == 2
    with pytest.raises(RuntimeError):
        weighted.score(images[:, :2], PROMPTS)
    assert SHARED.get() is None


def test_pictures_that_are_gone_are_not_taken_for_others() -> None:
    """Python gives the address of a dead object to the next one."""
    with sharing():
        for number in range(100):
            assert once("clip", torch.full((1,), number), torch.clone).item() == number
