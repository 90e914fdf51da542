"""`python -m mira_pl doctor --config X`: what the fit of X needs, what of it is here, and whether its settings can be.

No weights are read: once every file is here, models are built from their configurations alone.
"""

import itertools
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants

from ..fit import PromptData
from ..fit.batch import as_begun
from ..fit.cli import hush, parse, plain, unfinished
from ..fit.duration import least_seconds, seconds_left
from ..fit.estimate import Memory, file_bytes, memory
from ..fit.needs import Needs, needs_of
from ..fit.parts import Parts
from ..hub import Need, WebFile
from ..hub.loading import broken
from ..hub.need import is_weights
from ..hub.published import PUBLISHED
from ..memory import free_bytes
from ..runs import RunFolder


def main(argv: Sequence[str]) -> int:
    """Say what is here, what is missing, and how large and long the run will be; takes the arguments of `fit`.

    Returns:
        0 where the run could start now, 1 where something is missing.

    Raises:
        OSError: a file that the configuration names is not there; or the run folder holds another run.
        ValueError: the configuration is wrong, a model is not the one that is needed, or a class refuses its settings.
    """
    hush()
    cli = parse(argv)
    config = plain(cli)
    needs = needs_of(config)
    wanting = show_files(needs)
    parts, device = Parts.of(config, needs), device_of(config["trainer"]["accelerator"])
    no_device = show_device(parts, device)
    if not wanting and not no_device:
        cli.rehearse()
    if "data.prompts" not in needs or not needs["data.prompts"].look().missing:
        show_run(parts, None if no_device else device)
    print()
    for source in (source for source in wanting if Path(source).is_dir()):
        print(f"incomplete: {source}; complete it, or give another")
    elsewhere = [source for source in wanting if not Path(source).is_dir()]
    if elsewhere:
        print(f"missing of {', '.join(elsewhere)}: {shlex.join(['python', '-m', 'mira_pl', 'fetch', *argv])}")
    if no_device:
        print(no_device)
    if wanting or no_device:
        return 1
    print(f"ready: {shlex.join(['python', '-m', 'mira_pl', 'fit', *argv])}")
    return 0


def show_files(needs: Needs) -> list[str]:
    """Every file by part, with its size; returns the sources of which some are missing or broken."""
    cache = Path(constants.HF_HUB_CACHE)
    disk = next(folder for folder in (cache, *cache.parents) if folder.exists())
    print(f"cache: {cache} ({size(shutil.disk_usage(disk).free)} free)")
    wanting: dict[str, None] = {}
    grouped: dict[tuple[str, str], list[Need | WebFile]] = {}
    for place, need in needs.items():
        grouped.setdefault((place.rsplit(".", 1)[0], need.source), []).append(need)
    for (place, source), group in grouped.items():
        print(f"\n{place}: {source}{licence(source)}")
        for state, bytes_, name in itertools.chain.from_iterable(map(lines, group)):
            print(f"  {state:8}{bytes_:>10}  {name}")
            if state != "here":
                wanting[source] = None
    return list(wanting)


def lines(need: Need | WebFile) -> list[tuple[str, str, str]]:
    """State, size and name of every file of a need; the size of missing weights is about right."""
    found = need.look()
    here = [
        ("broken" if broken(path) else "here", size(path.stat().st_size), name) for name, path in found.files.items()
    ]
    expected = file_bytes(need) if isinstance(need, Need) else None
    about = "" if expected is None else f"~{size(expected)}"
    return here + [("missing", about if is_weights(name) else "", name) for name in found.missing]


def device_of(accelerator: Any) -> torch.device:
    """Where the run will compute, if it can."""
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def show_device(parts: Parts, device: torch.device) -> str:
    """Memory that is wanted and memory that is free; returns what keeps the run from its device, or nothing."""
    accelerator = parts.config["trainer"]["accelerator"]
    absent = accelerator in ("gpu", "cuda") and device.type != "cuda"
    if absent:
        print("\ndevice: a GPU, which is not here")
    else:
        name = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU: the CPU"
        print(f"\ndevice: {name}, {size(free_bytes(device))} free")
    print(f"memory: {in_words(memory(parts), None if absent else free_bytes(device))}")
    if absent:
        return f"trainer.accelerator is {accelerator}, but torch sees no GPU: take another machine, or give cpu"
    return ""


def in_words(wanted: Memory, free: int | None) -> str:
    """What a run wants, beside the bytes that are free where that is known."""
    if wanted.peak is None:
        known = "" if wanted.weights is None else f"; the weights alone take {size(1e9 * wanted.weights)}"
        return f"unknown for these models or this method{known}"
    fits = "" if free is None or wanted.peak * 1e9 <= free else ", MORE THAN IS FREE: see configs/hardware"
    shares = (wanted.weights, wanted.step, wanted.pictures)
    weights, step, pictures = (size(1e9 * part) for part in shares if part is not None)
    return (
        f"about {size(1e9 * wanted.peak)}{fits} (weights {weights}, one step {step}, decoding and scoring {pictures}; "
        "counted from shapes, not measured)"
    )


def show_run(parts: Parts, device: torch.device | None) -> None:
    """The jobs, what of them is done in the run folder, and how long the others will take."""
    run = RunFolder(Path(parts.config["out"]))
    config = as_begun(parts.config, run)
    data = PromptData.of(config["data"])
    overwrite = config["overwrite"] and not unfinished(run, config, data.order())
    run.check(config, overwrite)
    records = [] if overwrite else run.records()
    print(f"run: {run.path}, {len(records)} of {len(data.jobs)} jobs done, {batches(data)}")
    left = seconds_left(records, len(data.jobs))
    if left is not None:
        print(f"time: about {duration(left)} left, by the mean of the jobs that are done")
        return
    least = None if device is None else least_seconds(parts, len(data.jobs), device)
    if least is None:
        print("time: unknown before the first job is done")
        return
    print(
        f"time: at least {duration(least)} (operations counted, at the speed of a matrix product on this device; "
        "measured after the first job)"
    )


def batches(data: PromptData) -> str:
    """How many, where that is settled."""
    return "as many at once as fit" if data.batch_size == "auto" else f"{len(data.batches)} batches"


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    for count, unit in ((60, "seconds"), (60, "minutes"), (24, "hours")):
        if seconds < 2 * count:
            return f"{seconds:.0f} {unit}"
        seconds /= count
    return f"{seconds:.0f} days"


def licence(source: str) -> str:
    """What stands behind a source."""
    if source not in PUBLISHED:
        return ""
    known = PUBLISHED[source]
    gate = "; gated: accept its terms on its page, then `hf auth login`" if known.gated else ""
    return f" ({known.licence or 'licence: see its card'}{gate})"


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
