"""Prompts as the tokens of a tokenizer, and a warning of what does not fit."""

import functools
import logging
from collections.abc import Sequence
from typing import Any

logger = logging.getLogger(__name__)
SHOWN = 60  # characters of a prompt; what is cut off is shown whole


def tokenize(tokenizer: Any, prompts: Sequence[str], longest: int, reader: str) -> Any:
    """Token ids and mask, padded to `longest`; what is cut off is said in a warning that names the reader."""
    warn_of_cuts(tokenizer, prompts, longest, reader)
    return tokenizer(list(prompts), padding="max_length", max_length=longest, truncation=True, return_tensors="pt")


def warn_of_cuts(tokenizer: Any, prompts: Sequence[str], longest: int, reader: str) -> None:
    """One warning a prompt and reader, however often they meet."""
    for prompt, ids in zip(prompts, tokenizer(list(prompts), verbose=False).input_ids, strict=True):
        if len(ids) > longest:
            _warn_once(prompt, longest, tokenizer.decode(ids[longest - 1 : -1]), reader)


@functools.lru_cache(maxsize=1024)
def _warn_once(prompt: str, longest: int, cut: str, reader: str) -> None:
    start = prompt if len(prompt) <= SHOWN else f"{prompt[: SHOWN - 1]}…"
    logger.warning("%s reads %d tokens of the prompt %r: %r is cut off", reader, longest, start, cut)
