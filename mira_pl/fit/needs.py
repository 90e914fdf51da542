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

    Raises:
        FileNotFoundError: a path in it names a file that is not there.
    """
    needs: Needs = {}
    for place, part in _parts("model", config["model"]):
        needs |= {f"{place}.{name}": need for name, need in _needs_of_part(part).items()}
    prompts = config["data"]["prompts"]
    needed = SETS[prompts].need if isinstance(prompts, str) and prompts in SETS else None
    return needs | ({} if needed is None else {"data.prompts": needed})


def ensure(needs: Needs, arguments: Sequence[str]) -> None:
    """Fetches what is missing, before anything heavy is loaded.

    Args:
        needs: of a run.
        arguments: of its command line; `fetch` takes the same.

    Raises:
        OSError: something is missing and cannot be fetched; names the command that fetches it elsewhere.
        ValueError: a source is not what is needed.
    """
    absent = [need for need in dict.fromkeys(needs.values()) if need.look().missing]
    listings = {}
    for need in absent:
        try:
            fetch(need, listings)
        except OSError as error:
            if isinstance(need, Need) and need.local:
                raise
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
