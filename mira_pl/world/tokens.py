"""The tokenizer of the world: CLIP's byte-pair scheme, with every word of the captions as one token."""

from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from .names import COLOURS, SUBJECTS

MAX_TOKENS = 24
WORDS = (
    *["generate", "an", "image", "of", "a", "and", "with", "the", "on", "in", "picture", "photo"],
    *COLOURS,
    *SUBJECTS,
)


def build_tokenizer() -> CLIPTokenizer:
    """Unknown words fall apart into bytes, as in CLIP, so any prompt can be encoded."""
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    trained.train_from_iterator([" ".join(WORDS)] * 2, trainer)
    vocab, merges = _with_every_byte(trained)
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)


def _with_every_byte(trained: Tokenizer) -> tuple[dict[str, int], Any]:
    """CLIP's order: bytes, bytes that end a word, merged pieces by rank, start of text, end of text."""
    import json

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    pieces = [*alphabet, *(byte + "</w>" for byte in alphabet), *dict.fromkeys(a + b for a, b in merges)]
    pieces = [*dict.fromkeys(pieces), "<|startoftext|>", "<|endoftext|>"]
    return {piece: index for index, piece in enumerate(pieces)}, merges


def save_tokenizer(folder: Path) -> None:
    """Write the tokenizer in transformers' layout."""
    tokenizer = build_tokenizer()
    assert isinstance(tokenizer, transformers.PreTrainedTokenizerBase)
    tokenizer.save_pretrained(folder)
