"""Seconds, bytes and ceilings of a device, each measured in the run that reports it."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import diffusers
import torch
import transformers

from .live_memory import LiveMemory


@dataclass(frozen=True)
class Ceilings:
    """What the device does at best.

    Attributes:
        flops: a second, of a product of two random square matrices.
        bytes: a second, read and written, of a copy.
    """

    flops: float
    bytes: float


@dataclass
class Peak:
    """Most bytes in use at once; on the CPU, of tensors born meanwhile."""

    bytes: int = 0


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], object], device: torch.device, warmup: int, repeats: int) -> list[float]:
    """Of `repeats` calls after `warmup` others."""
    taken = []
    for _ in range(warmup + repeats):
        wait(device)
        began = time.perf_counter()
        run()
        wait(device)
        taken.append(time.perf_counter() - began)
    return taken[warmup:]


def ceilings(device: torch.device, dtype: torch.dtype, side: int = 8192, repeats: int = 20) -> Ceilings:
    """Both, by the median.

    Args:
        device: to measure.
        dtype: of the matrices.
        side: of the matrices; the copy is of eight times as many bytes as one of them holds numbers.
        repeats: calls that count.
    """
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = statistics.median(seconds(lambda: left @ right, device, 3, repeats))
    source = torch.randint(0, 255, (8 * side * side,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = statistics.median(seconds(lambda: target.copy_(source), device, 3, repeats))
    return Ceilings(2 * side**3 / product, 2 * source.nbytes / copied)


@contextmanager
def peak_bytes(device: torch.device) -> Iterator[Peak]:
    """The peak of the body; on a card with the weights, as its allocator counts."""
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device)
    else:
        with LiveMemory() as memory:
            yield peak
        peak.bytes = memory.peak


def release(device: torch.device) -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def describe(device: torch.device) -> dict[str, str | None]:
    """Card, versions and date."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "card": card,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
