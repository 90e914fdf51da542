"""The fits of a sweep, parsed before anything runs: a misspelt key is found now and not in every trial."""

from collections.abc import Mapping
from typing import Any

from ..fit import PromptData
from ..fit.cli import ParsedCLI, build, plain
from .command import arguments
from .definition import Overlay, Sweep


def parsed(sweep: Sweep, method: str | None, values: Overlay, overlay: Overlay) -> dict[str, Any]:
    """The resolved configuration of a fit.

    Raises:
        ValueError: a setting cannot be. Misspelt keys end the program with one line, as in `fit`.
    """
    return plain(build(arguments(sweep, method, values, overlay), ParsedCLI))


def job_keys(sweep: Sweep) -> list[str]:
    """Parse a fit of every method, and name the jobs of a trial in their order; see `measures.Jobs`."""
    methods = list(sweep.space.methods) or [None]
    for method in methods[1:]:
        parsed(sweep, method, sweep.space.example(method), sweep.selection[0])
    for overlay in sweep.report:
        parsed(sweep, methods[0], sweep.space.example(methods[0]), overlay)
    sets = [parsed(sweep, methods[0], sweep.space.example(methods[0]), overlay) for overlay in sweep.selection]
    keys = [jobs_of(config) for config in sets]
    return keys[0] if len(keys) == 1 else [f"{index}/{key}" for index, part in enumerate(keys) for key in part]


def jobs_of(config: Mapping[str, Any]) -> list[str]:
    """Keys of the jobs of a configuration."""
    return PromptData(**config["data"]).order()
