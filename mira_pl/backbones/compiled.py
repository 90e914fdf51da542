"""Options for a denoiser that change its speed, and what it computes by rounding alone."""

from typing import Any, Literal

import torch

Compile = Literal["none", "regional", "full", "graphs"]
VARIANTS = 64
"""Graphs of one function, where torch would stop at 8: the blocks of SD 1.5 have three widths, each with and without a
gradient, for the first batch and for batches of other sizes."""


def compiled(denoiser: Any, how: Compile) -> Any:
    """The denoiser, in place, compiled when it is first called.

    Args:
        denoiser: frozen.
        how: `none`; `regional`: every transformer block alone; `full`: all in one graph; `graphs`: the same,
            replayed as CUDA graphs.

    Raises:
        ValueError: on a CPU, no C++ compiler is installed.
    """
    if how == "none":
        return denoiser
    if not torch.cuda.is_available():
        find_compiler()
    dynamo = torch._dynamo.config
    dynamo.cache_size_limit = max(dynamo.cache_size_limit, VARIANTS)
    for part in blocks(denoiser) if how == "regional" else [denoiser]:
        part.compile(fullgraph=True, mode="reduce-overhead" if how == "graphs" else None)
    return denoiser


def find_compiler() -> None:
    """Refuse, before anything runs, what torch.compile would refuse in the first iteration."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ValueError(
            "compile needs a C++ compiler, and none is here: install g++, or give compile: none"
        ) from error


def blocks(denoiser: Any) -> list[Any]:
    """The transformer blocks of a denoiser of diffusers, which repeat, so that few graphs serve all of them."""
    return [block for name, part in denoiser.named_modules() if name.endswith("transformer_blocks") for block in part]


def laid_out(denoiser: Any, channels_last: bool) -> Any:
    """The denoiser, in place, whose convolutions keep the channels of a place side by side if wanted."""
    return denoiser.to(memory_format=torch.channels_last) if channels_last else denoiser
