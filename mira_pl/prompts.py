"""Prompts by name, from files and from lists, and prompts turned into jobs."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from .prompt_files import from_file
from .prompt_sets import SETS
from .types import Job

FILES = (".txt", ".csv", ".jsonl")


def expand(
    prompts: str | Sequence[str],
    template: str | None,
    articles: Literal["original", "fixed"] = "original",
    column: str = "prompt",
) -> list[str]:
    """Full prompts of a set's name, of a file, or of a list.

    Sets get the paper's template, files and lists stay as they are, by default.

    Args:
        prompts: a name of `prompt_sets.SETS`, the path of a .txt, .csv or .jsonl file, or prompts.
        template: text with {} for the prompt; None is the default.
        articles: `original` keeps the sets' own "a ant" and "a glasses", `fixed` mends them.
        column: of a .csv or .jsonl file.

    Raises:
        ValueError: unknown set, nothing in the list, an empty prompt, or a template without {}.
        FileNotFoundError: there is no such file, or the set cannot be fetched.
    """
    items, default = _items(prompts, column)
    template = default if template is None else template
    if not items:
        raise ValueError("the list of prompts is empty: give at least one prompt, or the name of a set")
    if any(not item.strip() for item in items):
        raise ValueError("a prompt is empty: remove it from the list")
    if halves := [item for item in items if not item.isascii() and any("\ud800" <= sign <= "\udfff" for sign in item)]:
        raise ValueError(f"the prompt {halves[0][:60]!r} has half of a surrogate pair, which is no character: mend it")
    if "{}" not in template:
        raise ValueError(f"the template {template!r} has no {{}} to put the prompt in")
    full = [template.replace("{}", item) for item in items]
    return full if articles == "original" else [with_right_articles(prompt) for prompt in full]


def _items(prompts: str | Sequence[str], column: str) -> tuple[list[str], str]:
    """The prompts and the template they stand in by default."""
    if not isinstance(prompts, str):
        return list(prompts), "{}"
    if prompts in SETS:
        return list(SETS[prompts].load()), SETS[prompts].template
    if prompts.endswith(FILES):
        if not Path(prompts).is_file():
            raise FileNotFoundError(f"there is no file of prompts {prompts}")
        return from_file(Path(prompts), column), "{}"
    raise ValueError(
        f"no prompt set is called {prompts[:60]!r}; there are {', '.join(SETS)}, "
        f"or give a list of prompts, or a file ({', '.join(FILES)})"
    )


def with_right_articles(prompt: str) -> str:
    """ "an" before a vowel, none before glasses."""
    return re.sub(r"\ba (?=[aeiou])", "an ", re.sub(r"\ba (?=glasses\b)", "", prompt))


def make_jobs(prompts: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """Every prompt under every seed, seed by seed, doubles removed."""
    if not seeds:
        raise ValueError("the list of seeds is empty: give at least one seed")
    for seed in seeds:
        if not 0 <= seed < 2**63:
            raise ValueError(f"a seed must be in 0..2**63 - 1, got {seed}")
    pairs = dict.fromkeys((prompt, seed) for seed in seeds for prompt in prompts)
    return [Job(prompt, seed, job_key(prompt, seed)) for prompt, seed in pairs]


def job_key(prompt: str, seed: int) -> str:
    """A unique, safe file name: a readable slug, a hash of the whole prompt, the seed."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[-40:].strip("-") or "prompt"
    return f"{slug}-{hashlib.sha256(prompt.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}-s{seed}"
