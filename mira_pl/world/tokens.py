"""The tokenizer of the world: CLIP's byte-pair scheme, with every word of the captions as one token."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from .names import COLOURS, SUBJECTS

MAX_TOKENS = 24
END = "</w>"
WORDS = (
    *["generate", "an", "image", "of", "a", "and", "with", "the", "on", "in", "picture", "photo"],
    *COLOURS,
    *SUBJECTS,
)


def build_tokenizer() -> CLIPTokenizer:
    """Unknown words fall apart into bytes, as in CLIP, so any prompt can be encoded."""
    merges = byte_pair_merges(WORDS)
    alphabet = sorted(ByteLevel.alphabet())
    # CLIP's order: bytes, bytes that end a word, merged pieces by rank, start of text, end of text.
    pieces = [*alphabet, *(byte + END for byte in alphabet), *(left + right for left, right in merges)]
    pieces = [*dict.fromkeys(pieces), "<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    pairs: Any = merges  # the annotation knows strings alone
    return CLIPTokenizer(vocab=vocab, merges=pairs, model_max_length=MAX_TOKENS)


def byte_pair_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Merges until every word is one piece: the most frequent pair first, of equals the first in the alphabet.

    tokenizers' own trainer breaks ties differently in every process, so that a resumed training met other ids.
    """
    split = [[*word[:-1], word[-1] + END] for word in dict.fromkeys(words)]
    merges: list[tuple[str, str]] = []
    while any(len(pieces) > 1 for pieces in split):
        counts = Counter(pair for pieces in split for pair in itertools.pairwise(pieces))
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        split = [_merged(pieces, best) for pieces in split]
    return merges


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    for piece in pieces:
        if result and (result[-1], piece) == pair:
            result[-1] += piece
        else:
            result.append(piece)
    return result
