from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from jsonargparse import ArgumentParser

from mira_pl.rewards import BlackBox, Brightness, CLIPScore, Darkness, JPEGSize, Reward, Term, Weighted

PROMPTS = ["a cat"] * 4


@dataclass(frozen=True)
class Placed(Reward):
    """Brightness that remembers where it was moved, by returning a new object."""

    differentiable: ClassVar[bool] = True
    device: str = "nowhere"

    def score(self, images, prompts):
        return Brightness().score(images, prompts)

    def to(self, device):
        return Placed(str(device))


def test_weighted_is_the_weighted_sum_per_image(images):
    terms = [Term(Brightness(), 5.0), Term(Darkness(), 2.0), Term(JPEGSize(), 0.5)]
    expected = 3 * images.mean(dim=(1, 2, 3)) + 0.5 * JPEGSize().score(images, PROMPTS)
    torch.testing.assert_close(Weighted(terms).score(images, PROMPTS), expected)


def test_gradients_pass_through_the_sum(images):
    images.requires_grad_()
    Weighted([Term(Brightness(), 5.0), Term(Darkness(), 2.0)]).score(images, PROMPTS).sum().backward()
    torch.testing.assert_close(images.grad, torch.full_like(images, 3 / images[0].numel()))


def test_one_black_box_makes_the_sum_a_black_box():
    inner = Weighted([Term(Brightness(), 1.0)])
    assert inner.differentiable
    assert Weighted([Term(inner, 1.0), Term(Darkness(), 1.0)]).differentiable
    assert not Weighted([Term(inner, 1.0), Term(JPEGSize(), 1.0)]).differentiable


def test_no_terms_is_an_error():
    with pytest.raises(ValueError, match="at least one term"):
        Weighted([])


def test_to_moves_every_term_and_leaves_the_old_sum_alone():
    before = Weighted([Term(Placed(), 2.0)])
    after = before.to(torch.device("meta"))
    assert after.terms == [Term(Placed("meta"), 2.0)]
    assert before.terms == [Term(Placed(), 2.0)]


def test_names():
    assert [reward.name for reward in (Brightness(), JPEGSize(), Weighted([Term(Darkness(), 1.0)]))] == [
        "Brightness",
        "JPEGSize",
        "Weighted",
    ]


def test_yaml_names_rewards_by_class(tiny_clip, images):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--reward", type=Reward)
    yaml = f"""
    class_path: Weighted
    init_args:
      terms:
      - {{reward: {{class_path: CLIPScore, init_args: {{model: {tiny_clip}}}}}, weight: 5.0}}
      - {{reward: {{class_path: JPEGSize, init_args: {{quality: 80}}}}, weight: 0.5}}
      - {{reward: Brightness, weight: 1}}
    """
    reward = parser.instantiate_classes(parser.parse_args([f"--reward={yaml}"])).reward
    assert [term.reward.name for term in reward.terms] == ["CLIPScore", "JPEGSize", "Brightness"]
    expected = 5 * CLIPScore(str(tiny_clip)).score(images, PROMPTS)
    expected = expected + 0.5 * JPEGSize(80).score(images, PROMPTS) + Brightness().score(images, PROMPTS)
    torch.testing.assert_close(reward.score(images, PROMPTS), expected)


def test_a_black_box_gives_values_and_nothing_else(images):
    images.requires_grad_()
    closed = BlackBox(Brightness())
    assert torch.equal(closed.score(images, PROMPTS), Brightness().score(images, PROMPTS).detach())
    assert not closed.score(images, PROMPTS).requires_grad
    assert closed.name == "Brightness" and not closed.differentiable
    assert not Weighted([Term(closed, 1.0), Term(Darkness(), 1.0)]).differentiable


def test_a_black_box_moves_what_is_in_it():
    assert BlackBox(Placed()).to(torch.device("cpu")).reward.device == "cpu"
