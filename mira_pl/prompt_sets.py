"""The prompt sets of the papers, with sources and licences. What is not ours to ship is fetched when asked for."""

import csv
import itertools
import json
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.constants import HF_HOME

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
        load: gives the prompts; may read a file or ask the hub.
        template: text with {} for the prompt.
        source: who made them, and under which licence they are given on.
    """

    load: Callable[[], Sequence[str]]
    template: str
    source: str


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


def hpdv2(style: str) -> list[str]:
    """The 800 benchmark prompts of one style of HPDv2, from the hub or its cache.

    Raises:
        FileNotFoundError: neither is at hand.
    """
    try:
        file = hf_hub_download(HPDV2, f"benchmark/{style}.json", repo_type="dataset")
    except OSError as error:
        raise FileNotFoundError(
            f"the prompts of hpdv2/{style} are not in the hub's cache and cannot be fetched from {HPDV2}: "
            "run once where there is a network, or give a file of prompts"
        ) from error
    return json.loads(Path(file).read_text(encoding="utf-8"))


def compbench(category: str) -> list[str]:
    """The 300 validation prompts of one category of T2I-CompBench, fetched once.

    Raises:
        FileNotFoundError: they were not fetched yet and cannot be.
    """
    file = Path(HF_HOME) / "mira_pl" / f"compbench_{category}_val.txt"
    if not file.is_file():
        try:
            with urllib.request.urlopen(COMPBENCH_URL.format(category), timeout=30) as answer:
                content = answer.read()
        except OSError as error:
            raise FileNotFoundError(
                f"the prompts of compbench/{category} are not in {file.parent} and cannot be fetched from "
                f"{COMPBENCH_URL.format(category)}: run once where there is a network, or give a file of prompts"
            ) from error
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return from_file(file)


def from_file(file: Path) -> list[str]:
    """One prompt a line of a text file, or the column `prompt` of a .csv or .jsonl file.

    Raises:
        ValueError: the file has no such column.
    """
    text = file.read_text(encoding="utf-8-sig")
    if file.suffix == ".txt":
        return [line.strip() for line in text.splitlines() if line.strip()]
    rows = list(csv.DictReader(text.splitlines(keepends=True))) if file.suffix == ".csv" else _json_lines(file, text)
    if not all(isinstance(row, dict) and row.get("prompt") for row in rows):
        raise ValueError(f"{file} has a row without a prompt: give every row a column named 'prompt'")
    return [row["prompt"] for row in rows]


def _json_lines(file: Path, text: str) -> list[dict[str, str]]:
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is no file of JSON lines ({error}): give one object a line") from error


DDPO = "DDPO (Black et al. 2023), MIT"
ATTEND = "Attend-and-Excite (Chefer et al. 2023), MIT; the colours as in NoiseDiffusion's copy, MIT"

SETS: dict[str, PromptSet] = {
    "animals": PromptSet(lambda: ANIMALS, ONE, DDPO),
    "black_animals": PromptSet(lambda: [f"black {animal}" for animal in ANIMALS], ONE, DDPO),
    "white_animals": PromptSet(lambda: [f"white {animal}" for animal in ANIMALS], ONE, DDPO),
    "animal_pairs": PromptSet(animal_pairs, PHRASE, ATTEND),
    "animals_with_objects": PromptSet(animals_with_objects, PHRASE, ATTEND),
    **{
        f"hpdv2/{style}": PromptSet(lambda style=style: hpdv2(style), "{}", "HPDv2 (Wu et al. 2023), Apache-2.0")
        for style in ("anime", "concept-art", "paintings", "photo")
    },
    **{
        f"compbench/{category}": PromptSet(
            lambda category=category: compbench(category), "{}", "T2I-CompBench (Huang et al. 2023), MIT"
        )
        for category in COMPBENCH
    },
}
