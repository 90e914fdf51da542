"""What a part loads, said before any of it is opened: loading, `doctor` and `fetch` all read it from here."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

Kind = Literal["model", "dataset"]
INDEX = ".safetensors.index.json"
SINGLE = ".safetensors"
WEIGHTS = (SINGLE, ".pt", ".pth")
PICKLED = (".ckpt", ".pt", ".pth", ".bin")
EMOJI = "emoji"
"""Names the packaged weights of the emoji world, where a hub id or a local path may stand."""

PICKLES = {
    "model.safetensors": ("pytorch_model.bin", "pytorch_model.bin.index.json"),
    "diffusion_pytorch_model.safetensors": ("diffusion_pytorch_model.bin",),
    "pytorch_lora_weights.safetensors": ("pytorch_lora_weights.bin",),
}
"""What stands in the place of safe weights where there are none."""

READERS = {
    "StableDiffusionPipeline": "StableDiffusion",
    "StableDiffusionXLPipeline": "SDXL",
    "PixArtAlphaPipeline": "PixArt",
    "StableDiffusion3Pipeline": "StableDiffusion3",
    "FluxPipeline": "Flux",
    "SanaPipeline": "Sana",
    "CLIPModel": "CLIPScore or Aesthetic",
    "BlipForQuestionAnswering": "BLIPVQA",
}
"""Which backbone or reward reads what a model says it is."""


@dataclass(frozen=True)
class Found:
    """What of a need is there.

    Attributes:
        files: where each file lies, by its name in the source.
        missing: names of the others; alternatives joined by "or", shards not named.
    """

    files: dict[str, Path]
    missing: list[str]

    @property
    def folder(self) -> Path:
        """Where the files of a part lie side by side."""
        return next(iter(self.files.values())).parent


@dataclass(frozen=True)
class Need:
    """Files of one folder or repository. Hashable: two parts may need the same.

    Attributes:
        source: a local folder, or a hub id.
        folder: of the part in it; "" where the source is this part alone.
        choices: of each, the first file that is there is read; with an index its shards, with vocab.json merges.txt.
        optional: files that are read where they are there.
        classes: what the model may say it is, in model_index.json or config.json; empty takes everything.
        kind: of the repository on the hub.
        reason: why it is needed, where nobody named it; said where it cannot be had.
    """

    source: str
    folder: str
    choices: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    kind: Kind = "model"
    reason: str = field(default="", compare=False)

    @property
    def has_weights(self) -> bool:
        """Whether it is more than a tokenizer, a scheduler or a description."""
        return any(is_weights(name) for choice in self.choices for name in choice)

    def without_weights(self, reason: str) -> "Need":
        """The same part where its weights come from elsewhere."""
        choices = tuple(choice for choice in self.choices if not any(map(is_weights, choice)))
        return replace(self, choices=choices, reason=reason)

    @property
    def local(self) -> bool:
        """Whether the source is a folder of this machine."""
        return bool(self.source) and Path(self.source).is_dir()

    def look(self) -> Found:
        """What lies in the local folder or in the hub's cache, without a network.

        Raises:
            FileNotFoundError: the source is neither a folder nor can it be a hub id.
            ValueError: it is another model than is needed, or its weights are pickles.
        """
        if not self.local:
            self._check_id()
        return self.gather(lambda name: self.place(name) is not None, lambda name: Path(str(self.place(name))))

    def place(self, name: str) -> Path | None:
        """The file `name` of the source on this machine."""
        if self.local:
            path = Path(self.source, name)
        else:
            cached = try_to_load_from_cache(self.source, name, repo_type=self.kind)
            path = Path(cached) if isinstance(cached, str) else None
        return path if path is not None and path.is_file() else None

    def gather(self, has: Callable[[str], bool], get: Callable[[str], Path]) -> Found:
        """The files by the rules above, out of those that there are.

        What is optional comes first: a fetch that is cut off then always lacks something that is missed.

        Args:
            has: whether the source has a file.
            get: where it lies; may fetch it.
        """
        files = {name: get(name) for name in self._named(self.optional) if has(name)}
        missing = []
        for choice in map(self._named, self.choices):
            name = next(filter(has, choice), None)
            if name is None:
                self._refuse_pickles(choice, has)
                missing.append(" or ".join(name for name in choice if not name.endswith(INDEX)))
                continue
            files[name] = get(name)
            self._check_class(name, files[name])
            for other in self._named(companions(files[name])):
                if has(other):
                    files[other] = get(other)
                else:
                    missing.append(other)
        return Found(files, missing)

    def _named(self, names: Iterable[str]) -> list[str]:
        return [f"{self.folder}/{name}" if self.folder else name for name in names]

    def _check_id(self) -> None:
        if self.source == EMOJI:
            raise ValueError("the emoji world has no model of this class: give a folder or a hub id")
        if self.source.endswith(PICKLED):
            raise ValueError(
                f"{self.source} is a pickle, which could run code: give a folder or a hub id of safe weights"
            )
        if self.source.endswith(SINGLE) and not Path(self.source).is_file():
            raise FileNotFoundError(
                f"{self.source} is one file, which this class cannot load (StableDiffusion and SDXL can): give the "
                "folder of the whole model, or a hub id"
            )
        if Path(self.source).is_file():
            raise FileNotFoundError(f"{self.source} is one file: give the folder of the whole model, or a hub id")
        try:
            validate_repo_id(self.source)
        except HFValidationError as error:
            raise FileNotFoundError(
                f"there is no folder {self.source}, and it is no hub id: give a folder in the layout of its "
                "library (diffusers, transformers), a hub id such as owner/name, or 'emoji'"
            ) from error

    def _check_class(self, name: str, file: Path) -> None:
        if file.name == "scheduler_config.json" and "_class_name" not in read_json(file):
            raise ValueError(f"{file} names no scheduler, as an empty one would: delete the file and fetch it again")
        if not self.classes or file.name not in ("model_index.json", "config.json"):
            return
        described = read_json(file)
        says = [described["_class_name"]] if "_class_name" in described else described.get("architectures") or []
        if says and not set(says) & set(self.classes):
            reader = READERS.get(says[0])
            advice = f"{reader} reads it" if reader else "no part of mira_pl reads it"
            raise ValueError(
                f"{self.source} is a {says[0]} by its {name}, where a {' or '.join(self.classes)} is needed: {advice}"
            )

    def _refuse_pickles(self, choice: list[str], has: Callable[[str], bool]) -> None:
        safe = choice[0].rpartition("/")[2]
        pickle = next(filter(has, self._named(PICKLES.get(safe, ()))), None)
        if pickle is not None:
            raise ValueError(
                f"{self.source} has its weights as a pickle alone ({pickle}), which could run code: convert it to "
                f"{choice[0]}, see https://huggingface.co/docs/safetensors/convert-weights"
            )


@dataclass(frozen=True)
class WebFile:
    """One file of the web, of no repository on the hub; `name` is what it is kept as, beside the hub's cache."""

    source: str
    name: str

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return Path(constants.HF_HOME, "mira_pl", self.name)

    def look(self) -> Found:
        """Whether it is kept."""
        return Found({self.name: self.path}, []) if self.path.is_file() else Found({}, [self.name])


def is_weights(name: str) -> bool:
    """Whether a file of this name holds weights."""
    return name.endswith(WEIGHTS)


def companions(file: Path) -> list[str]:
    """What is read with a file: the shards of an index, the merges of a vocabulary."""
    if file.name.endswith(INDEX):
        return sorted(set(read_json(file).get("weight_map", {}).values()))
    return ["merges.txt"] if file.name == "vocab.json" else []


def read_json(file: Path) -> dict:
    """A mapping in JSON.

    Raises:
        ValueError: the file holds none.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no JSON ({error}): delete the file and fetch it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds no mapping: delete the file and fetch it again")
    return content
