"""Prompt sets by name, and prompts turned into jobs."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence

from .types import Job

# The 45 Simple Animals of DDPO (MIRA, appendix A.7).
ANIMALS = [
    "cat", "dog", "horse", "monkey", "rabbit", "zebra", "spider", "bird", "sheep", "deer", "cow", "goat",
    "lion", "tiger", "bear", "raccoon", "fox", "wolf", "lizard", "beetle", "ant", "butterfly", "fish", "shark",
    "whale", "dolphin", "squirrel", "mouse", "rat", "snake", "turtle", "frog", "chicken", "duck", "goose",
    "bee", "pig", "turkey", "fly", "llama", "camel", "bat", "gorilla", "hedgehog", "kangaroo",
]  # fmt: skip
TEMPLATE = "generate an image of a {}"  # MIRA, section 5

SETS: dict[str, list[str]] = {
    "animals": ANIMALS,
    "black_animals": [f"black {animal}" for animal in ANIMALS],
    "white_animals": [f"white {animal}" for animal in ANIMALS],
}


def expand(prompts: str | Sequence[str], template: str | None) -> list[str]:
    """Full prompts of a set's name, or of a list. Sets get the paper's template, lists stay as they are, by default.

    Raises:
        ValueError: unknown set, nothing in the list, an empty prompt, or a template without {}.
    """
    if isinstance(prompts, str):
        if prompts not in SETS:
            raise ValueError(
                f"no prompt set is called {prompts[:60]!r}; there are {', '.join(SETS)}, or give a list of prompts"
            )
        items, template = SETS[prompts], template or TEMPLATE
    else:
        items, template = list(prompts), template or "{}"
    if not items:
        raise ValueError("the list of prompts is empty: give at least one prompt, or the name of a set")
    if any(not item.strip() for item in items):
        raise ValueError("a prompt is empty: remove it from the list")
    if "{}" not in template:
        raise ValueError(f"the template {template!r} has no {{}} to put the prompt in")
    return [template.replace("{}", item) for item in items]


def make_jobs(prompts: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """Every prompt under every seed, seed by seed, doubles removed."""
    if not seeds:
        raise ValueError("the list of seeds is empty: give at least one seed")
    pairs = dict.fromkeys((prompt, seed) for seed in seeds for prompt in prompts)
    return [Job(prompt, seed, job_key(prompt, seed)) for prompt, seed in pairs]


def job_key(prompt: str, seed: int) -> str:
    """A unique, safe file name: a readable slug, a hash of the whole prompt, the seed."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[-40:].strip("-") or "prompt"
    return f"{slug}-{hashlib.sha256(prompt.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}-s{seed}"
