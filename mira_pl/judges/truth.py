"""The emoji world's truth: is the animal of the prompt in the picture, and in its colour? No reward sees this judge."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from typing_extensions import Self

from ..assets import packaged
from ..types import Images, PerJob
from ..world.judge import JudgeNetwork, Verdict
from ..world.names import ANIMALS, COLOURS, NATURAL, SUBJECTS
from ..world.scenes import TEMPLATE

ARTICLES = ("a", "an", "the")

Phrase = tuple[str, str | None]
"""A subject, and its colour if the prompt names one."""


def parse(prompt: str) -> list[Phrase]:
    """The subjects of a prompt such as "generate an image of a cat and a red apple", each with its colour.

    Raises:
        ValueError: the prompt names something that the emoji world does not have.
    """
    words = prompt.strip(" .").lower().removeprefix(TEMPLATE).replace(" with ", " and ").split(" and ")
    return [_parse_phrase([word for word in phrase.split() if word not in ARTICLES], prompt) for phrase in words]


def _parse_phrase(words: list[str], prompt: str) -> Phrase:
    colour = words.pop(0) if len(words) == 2 and words[0] in COLOURS else None
    if len(words) != 1 or words[0] not in SUBJECTS:
        raise ValueError(
            f"{' '.join(words)!r} in the prompt {prompt!r} is no subject of the emoji world: "
            f"name one or two of mira_pl.world.names.SUBJECTS, each behind a colour or none."
        )
    return words[0], colour


def load_network() -> JudgeNetwork:
    """The packaged judge, frozen, in fp32.

    Raises:
        FileNotFoundError: the package came without it.
        ValueError: the file is damaged.
    """
    file, network = packaged("judge/model.safetensors"), JudgeNetwork()
    if not file.is_file():
        raise FileNotFoundError(f"The packaged judge {file} is missing: reinstall mira_pl.")
    try:
        network.load_state_dict(load_file(file))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"The packaged judge {file} is damaged: reinstall mira_pl.") from error
    return network.eval().requires_grad_(False)


@dataclass(frozen=True, eq=False)
class TruthJudge:
    """Answers for each image of a batch, whatever else is in the batch."""

    network: JudgeNetwork = field(default_factory=load_network)

    def right_subject(self, images: Images, prompts: Sequence[str]) -> PerJob:
        """1 where the subjects that the prompt names are the most visible ones, else 0.

        One animal is looked for among the animals, everything else among all subjects.
        """
        presence = self._look(images).presence
        right = []
        for logits, phrases in zip(presence, map(parse, prompts), strict=True):
            named = {SUBJECTS.index(subject) for subject, _ in phrases}
            alone = len(named) == 1 and phrases[0][0] in ANIMALS
            among = logits[: len(ANIMALS)] if alone else logits
            right.append(set(among.topk(len(named)).indices.tolist()) == named)
        return torch.tensor(right, dtype=torch.float32)

    def right_colour(self, images: Images, prompts: Sequence[str]) -> PerJob:
        """1 where every colour that the prompt names is seen at its subject, else 0; NaN where it names none."""
        seen = self._look(images).colour[..., :NATURAL].argmax(dim=-1).tolist()
        right = []
        for colours, phrases in zip(seen, map(parse, prompts), strict=True):
            hits = [COLOURS[colours[SUBJECTS.index(subject)]] == colour for subject, colour in phrases if colour]
            right.append(float(all(hits)) if hits else float("nan"))
        return torch.tensor(right)

    def probability(self, images: Images, prompts: Sequence[str]) -> PerJob:
        """Of the prompt being true: the product over its subjects of presence and, where named, colour."""
        verdict = self._look(images)
        presence = verdict.presence.sigmoid()
        colours = verdict.colour[..., :NATURAL].softmax(dim=-1)
        factors = []
        for there, painted, phrases in zip(presence, colours, map(parse, prompts), strict=True):
            named = [(SUBJECTS.index(subject), colour) for subject, colour in phrases]
            seen = [there[index] for index, _ in named]
            seen += [painted[index, COLOURS.index(colour)] for index, colour in named if colour]
            factors.append(torch.stack(seen).prod())
        return torch.stack(factors)

    def to(self, device: torch.device) -> Self:
        """Moves the network in place."""
        self.network.to(device)
        return self

    @torch.no_grad()
    def _look(self, images: Images) -> Verdict:
        return Verdict(*(logits.cpu() for logits in self.network(images.to(self.network.head.weight.device))))
