"""What a configuration will load, known before any of it is built."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pydoc import locate
from typing import Any

from ..backbones import Backbone
from ..hub import Need, WebFile, fetch
from ..prompt_sets import SETS
from ..rewards import Reward

Needs = dict[str, Need | WebFile]
"""By place in the configuration, such as `model.backbone.unet`."""


def needs_of(config: Mapping[str, Any]) -> Needs:
    """Everything that the backbone, the rewards and the prompts of a resolved configuration load.

    A single file may have to be here before it is known what goes with it: see `rounds`.

    Raises:
        FileNotFoundError: a path in it names a file that is not there.
        ValueError: a file in it is a pickle, or of another model.
    """
    needs: Needs = {}
    for place, part in _parts("model", config["model"]):
        needs |= {f"{place}.{name}": need for name, need in _needs_of_part(part).items()}
    prompts = config["data"]["prompts"]
    needed = SETS[prompts].need if isinstance(prompts, str) and prompts in SETS else None
    return needs | ({} if needed is None else {"data.prompts": needed})


def rounds(config: Mapping[str, Any]) -> Iterator[Need | WebFile]:
    """Every need of a configuration once, also those that are known only when the ones before them are here."""
    seen: set[Need | WebFile] = set()
    while new := [need for need in dict.fromkeys(needs_of(config).values()) if need not in seen]:
        seen.update(new)
        yield from new


def ensure(config: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Fetches what is missing, before anything heavy is loaded.

    Args:
        config: resolved.
        arguments: of its command line; `fetch` takes the same.

    Raises:
        OSError: something is missing and cannot be fetched; names the command that fetches it elsewhere.
        ValueError: a source is not what is needed.
    """
    listings = {}
    for need in rounds(config):
        if not need.look().missing:
            continue
        try:
            fetch(need, listings)
        except OSError as error:
            if isinstance(need, Need) and need.local:
                raise
            absent = [other for other in needs_of(config).values() if other.look().missing]
            sources = ", ".join(dict.fromkeys(need.source for need in absent))
            command = shlex.join(["python", "-m", "mira_pl", "fetch", *arguments])
            raise FileNotFoundError(f"{error}. Files are missing of {sources}; with a network: {command}") from error


def _parts(place: str, value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Everything with a class_path, by place, from the outside in."""
    if isinstance(value, Mapping):
        if "class_path" in value:
            yield place, value
        for name, inner in value.items():
            yield from _parts(place if name == "init_args" else f"{place}.{name}", inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _parts(f"{place}.{number}", inner)


def _needs_of_part(part: Mapping[str, Any]) -> dict[str, Need]:
    cls = locate(part["class_path"])
    if isinstance(cls, type) and issubclass(cls, Backbone | Reward):
        return cls.needs(**part.get("init_args", {}))
    return {}
