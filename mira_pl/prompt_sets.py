"""The prompt sets of the papers, with sources and licences. What is not ours to ship is fetched when asked for."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .hub import Need, WebFile, ready
from .prompt_files import from_file, from_json

# The 45 Simple Animals of DDPO (MIRA, appendix A.7).
ANIMALS = [
    "cat", "dog", "horse", "monkey", "rabbit", "zebra", "spider", "bird", "sheep", "deer", "cow", "goat",
    "lion", "tiger", "bear", "raccoon", "fox", "wolf", "lizard", "beetle", "ant", "butterfly", "fish", "shark",
    "whale", "dolphin", "squirrel", "mouse", "rat", "snake", "turtle", "frog", "chicken", "duck", "goose",
    "bee", "pig", "turkey", "fly", "llama", "camel", "bat", "gorilla", "hedgehog", "kangaroo",
]  # fmt: skip

# Attend-and-Excite: twelve animals, in the order of its list, with nine objects in colours that were drawn once.
PAIRED = ["cat", "dog", "bird", "bear", "lion", "horse", "elephant", "monkey", "frog", "turtle", "rabbit", "mouse"]
WORN = ["bow", "crown", "glasses"]
OBJECTS = ["apple", "backpack", "balloon", "bench", "bowl", "car", "chair", "clock", "suitcase"]
COLOURS = {
    "cat": "red blue yellow gray purple yellow black green black",
    "dog": "black brown blue pink gray purple orange gray green",
    "bird": "yellow black brown purple black yellow green white black",
    "bear": "pink orange red gray purple white white blue red",
    "lion": "gray black brown white pink red white yellow orange",
    "horse": "green blue pink blue brown white pink yellow green",
    "elephant": "orange pink green green green brown black yellow green",
    "monkey": "orange yellow green brown green red blue yellow orange",
    "frog": "black yellow purple pink green orange black green red",
    "turtle": "pink gray pink white yellow yellow blue blue orange",
    "rabbit": "orange orange white white blue yellow gray gray yellow",
    "mouse": "pink brown black red purple red purple blue pink",
}

ONE = "generate an image of a {}"  # MIRA, section 5
PHRASE = "generate an image of {}"  # for prompts that bring their article; the paper does not say how it joins them
HPDV2 = "ymhao/HPDv2"
COMPBENCH_URL = "https://raw.githubusercontent.com/Karine-Huang/T2I-CompBench/main/examples/dataset/{}_val.txt"
COMPBENCH = ("color", "shape", "texture", "spatial", "non_spatial", "complex", "3d_spatial", "numeracy")


@dataclass(frozen=True)
class PromptSet:
    """Prompts, the template they stand in, and where they come from.

    Attributes:
        load: gives the prompts; may fetch them.
        template: text with {} for the prompt.
        source: who made them, and under which licence they are given on.
        need: the file that they are fetched as; None where they are of this module.
    """

    load: Callable[[], Sequence[str]]
    template: str
    source: str
    need: Need | WebFile | None = None


def animal_pairs() -> list[str]:
    """The 66 unordered pairs of twelve animals."""
    return [f"a {left} and a {right}" for left, right in itertools.combinations(PAIRED, 2)]


def animals_with_objects() -> list[str]:
    """The 144: every animal with three worn things, and with nine objects in their colours."""
    worn = [f"a {animal} with a {thing}" for animal in PAIRED for thing in WORN]
    coloured = [
        f"a {animal} and a {colour} {thing}"
        for animal in PAIRED
        for colour, thing in zip(COLOURS[animal].split(), OBJECTS, strict=True)
    ]
    return worn + coloured


def hpdv2(style: str) -> PromptSet:
    """The 800 benchmark prompts of one style of HPDv2, from the hub."""
    need = Need(HPDV2, "benchmark", ((f"{style}.json",),), kind="dataset")
    return PromptSet(lambda: from_json(fetched(need)), "{}", HPD, need)


def compbench(category: str) -> PromptSet:
    """The 300 validation prompts of one category of T2I-CompBench, from GitHub."""
    need = WebFile(COMPBENCH_URL.format(category), f"compbench_{category}_val.txt")
    return PromptSet(lambda: from_file(fetched(need)), "{}", BENCH, need)


def fetched(need: Need | WebFile) -> Path:
    """The one file of prompts, from the cache or fetched into it.

    Raises:
        FileNotFoundError: it is neither there nor can it be fetched.
    """
    try:
        (file,) = ready(need).files.values()
    except OSError as error:
        raise FileNotFoundError(f"{error}. These are the prompts; data.prompts may be a file of prompts too") from error
    return file


DDPO = "DDPO (Black et al. 2023), MIT"
ATTEND = "Attend-and-Excite (Chefer et al. 2023), MIT; the colours as in NoiseDiffusion's copy, MIT"
HPD = "HPDv2 (Wu et al. 2023), Apache-2.0"
BENCH = "T2I-CompBench (Huang et al. 2023), MIT"

SETS: dict[str, PromptSet] = {
    "animals": PromptSet(lambda: ANIMALS, ONE, DDPO),
    "black_animals": PromptSet(lambda: [f"black {animal}" for animal in ANIMALS], ONE, DDPO),
    "white_animals": PromptSet(lambda: [f"white {animal}" for animal in ANIMALS], ONE, DDPO),
    "animal_pairs": PromptSet(animal_pairs, PHRASE, ATTEND),
    "animals_with_objects": PromptSet(animals_with_objects, PHRASE, ATTEND),
    **{f"hpdv2/{style}": hpdv2(style) for style in ("anime", "concept-art", "paintings", "photo")},
    **{f"compbench/{category}": compbench(category) for category in COMPBENCH},
}
