"""The parts of a configuration that take memory and time, and what is known of them before they are loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ..hub import Need
from ..hub.published import PUBLISHED, Cost, Published
from .needs import Needs

UNKNOWN = Published()


@dataclass(frozen=True)
class Parts:
    """A resolved configuration, read for its cost.

    Attributes:
        config: all of it.
        files: its needs of files on the hub or in folders, by place.
    """

    config: Mapping[str, Any]
    files: Mapping[str, Need]

    @staticmethod
    def of(config: Mapping[str, Any], needs: Needs) -> "Parts":
        """Of a configuration and its needs."""
        return Parts(config, {place: need for place, need in needs.items() if isinstance(need, Need)})

    @cached_property
    def model(self) -> Mapping[str, Any]:
        """The arguments of the model that is fitted."""
        return self.config["model"].get("init_args", self.config["model"])

    @cached_property
    def arguments(self) -> Mapping[str, Any]:
        """Those of its backbone."""
        return self.model["backbone"].get("init_args", {})

    @property
    def searched(self) -> bool:
        """Whether noises are searched, not learned."""
        return "search" in self.model

    @property
    def dtype(self) -> str:
        """Of the backbone's weights."""
        return self.arguments.get("dtype", "float32")

    @property
    def batch(self) -> int:
        """Jobs at once; 1 where it is not settled how many."""
        size = self.config["data"]["batch_size"]
        return 1 if size == "auto" else size

    @property
    def steps(self) -> int:
        """T."""
        return 1 if self.arguments.get("one_step_at") is not None else self.arguments.get("steps", 1)

    @property
    def networks(self) -> int:
        """Denoisers that one prediction asks: with and without an annealed LoRA."""
        return 1 if self.arguments.get("anneal") is None else 2

    @property
    def branches(self) -> int:
        """Denoiser calls a step: two a network with guidance, unless the denoiser reads its scale."""
        guided = self.arguments.get("guidance", 1) > 1 and not self.known.reads_guidance
        return self.networks * (2 if guided else 1)

    @cached_property
    def backbone(self) -> Mapping[str, Need]:
        """What the backbone loads, by part."""
        start = "model.backbone."
        return {place.rsplit(".", 1)[1]: need for place, need in self.files.items() if place.startswith(start)}

    @cached_property
    def known(self) -> Published:
        """What is known of its denoiser; nothing of one that nobody has counted at this size."""
        denoiser = self.backbone.get("unet", self.backbone.get("transformer"))
        known = UNKNOWN if denoiser is None else published(denoiser)
        if known.pixels == self.arguments.get("size"):
            return known
        return replace(known, step=None, decode=None)

    def scorers(self, *places: str) -> list[Need]:
        """Weights of the parts of the model so named, such as "reward"."""
        starts = tuple(f"model.{place}." for place in places)
        return [need for place, need in self.files.items() if place.startswith(starts) and need.has_weights]


def published(need: Need) -> Published:
    """What is known of a need's source."""
    return PUBLISHED.get(need.source, UNKNOWN)


def scores(needs: Sequence[Need]) -> list[Cost | None]:
    """What every one of these costs a picture."""
    return [published(need).score for need in needs]
