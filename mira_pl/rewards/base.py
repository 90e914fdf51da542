"""The reward contract, and the weighted sum of rewards."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from typing_extensions import Self

from ..hub import Need
from ..ranges import finite
from ..types import Images, PerJob
from .sharing import sharing


class Reward(ABC):
    """Scores pictures. Its parameters, if any, are frozen: gradients reach the images only."""

    differentiable: ClassVar[bool]
    """Whether `score` carries gradients to the images; a black box ranks them only."""

    @staticmethod
    def needs(**init_args: Any) -> dict[str, Need]:
        """What the class loads when it is built with these arguments, by part: nothing, unless it says so."""
        return {}

    @property
    def name(self) -> str:
        """What logs and records call this reward."""
        return type(self).__name__

    @abstractmethod
    def score(self, images: Images, prompts: Sequence[str]) -> PerJob:
        """One number an image, higher is better. Images are raw: in [-1, 1] by convention, not clamped."""

    def to(self, device: torch.device) -> Self:
        """This reward, with what it computes with moved to `device`."""
        return self


def need_gradient(method: str, reward: Reward, instead: str) -> None:
    """Refuse a reward that cannot drive a method by gradients.

    Args:
        method: its name.
        instead: what to take but a differentiable reward.

    Raises:
        ValueError: the reward is a black box.
    """
    if not reward.differentiable:
        raise ValueError(
            f"{method} needs reward gradients, but {reward.name} has none: take a differentiable reward "
            f"(Aesthetic, Brightness, CLIPScore, Darkness), or {instead}"
        )


@dataclass(frozen=True, eq=False)
class BlackBox(Reward):
    """Any reward by its values alone: no gradient leaves it, as of a reward that has none.

    Args:
        reward: what scores.
    """

    reward: Reward
    differentiable: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """That of the reward inside."""
        return self.reward.name

    @torch.no_grad()
    def score(self, images: Images, prompts: Sequence[str]) -> PerJob:
        """The reward's own score, detached."""
        return self.reward.score(images, prompts)

    def to(self, device: torch.device) -> Self:
        """The moved reward, as closed as before."""
        return replace(self, reward=self.reward.to(device))


@dataclass(frozen=True)
class Term:
    """One summand of `Weighted`."""

    reward: Reward
    weight: float

    def __post_init__(self) -> None:
        finite(weight=self.weight)


@dataclass(frozen=True, eq=False)
class Weighted(Reward):
    """The sum of weight times score, in the scale of each reward: nothing is normalised.

    Args:
        terms: rewards with their weights, at least one.
    """

    terms: list[Term]

    def __post_init__(self) -> None:
        if not self.terms:
            raise ValueError("Weighted needs at least one term, but `terms` is empty: give a list of {reward, weight}.")

    @property
    def differentiable(self) -> bool:  # type: ignore[override]  # a sum knows it only from its terms
        """One black box makes the sum a black box: its share of the gradient would silently be missing."""
        return all(term.reward.differentiable for term in self.terms)

    def score(self, images: Images, prompts: Sequence[str]) -> PerJob:
        """The weighted sum. Terms on one CLIP embed the pictures once."""
        with sharing():
            scores = [term.weight * term.reward.score(images, prompts) for term in self.terms]
        return torch.stack(scores).sum(dim=0)

    def to(self, device: torch.device) -> Self:
        """The sum of the moved terms."""
        return replace(self, terms=[Term(term.reward.to(device), term.weight) for term in self.terms])
