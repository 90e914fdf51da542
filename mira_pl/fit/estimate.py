"""How much memory and time a run will take, as far as that is known before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from safetensors import safe_open

from ..hub import Need
from ..hub.loading import broken
from ..hub.published import PUBLISHED, Published
from .needs import Needs

WIDTH = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
RECOMPUTED = 0.5  # of the decoder's activations with `checkpoint_vae`: 0.52 at 512 pixels, 0.49 at 1024
UNKNOWN = Published()


@dataclass(frozen=True)
class Memory:
    """GB on the device; None where it is not known.

    Attributes:
        weights: of denoiser, VAE and rewards, which stay.
        encoders: of the text encoders, which are there before the first step only.
        step: activations of one sampling step of a batch.
        pictures: activations of decoding and scoring a batch.
        stored: steps whose activations are kept at once.
    """

    weights: float | None
    encoders: float | None
    step: float | None
    pictures: float | None
    stored: int

    @property
    def peak(self) -> float | None:
        """The most that is there at once."""
        if None in (self.weights, self.encoders, self.step, self.pictures):
            return None
        busy = self.stored * self.step + max(self.step, self.pictures)  # type: ignore[operator,type-var]
        return self.weights + max(self.encoders, busy)  # type: ignore[operator,type-var]


def memory(config: Mapping[str, Any], needs: Needs) -> Memory:
    """From counts of parameters and of the bytes that autograd keeps, see `mira_pl.hub.published`.

    Of a search the weights alone are known: nobody has counted what its particles keep.

    Args:
        config: resolved.
        needs: of it.
    """
    model = config["model"].get("init_args", config["model"])
    arguments = model["backbone"].get("init_args", {})
    width, batch = WIDTH[arguments.get("dtype", "float32")], config["data"]["batch_size"]
    files = {place: need for place, need in needs.items() if isinstance(need, Need)}
    backbone = {place.rsplit(".", 1)[1]: need for place, need in files.items() if place.startswith("model.backbone.")}
    others = {need for place, need in files.items() if place.startswith(("model.reward.", "model.clip."))}
    loaded = [need for name, need in backbone.items() if name in ("unet", "transformer", "vae")]
    loaded = loaded or [*backbone.values()]  # a single file of which more is not known yet
    on_device = not arguments.get("t5_on_cpu")
    encoders = [need for name, need in backbone.items() if name.startswith("text_encoder") and on_device]
    denoiser = backbone.get("unet", backbone.get("transformer"))
    known = UNKNOWN if denoiser is None else PUBLISHED.get(denoiser.source, UNKNOWN)
    rewards = [need for need in others if need.has_weights]
    scores = [PUBLISHED.get(need.source, UNKNOWN).score for need in rewards]
    calls = 2 if arguments.get("guidance", 1) > 1 else 1
    kept = RECOMPUTED if arguments.get("checkpoint_vae") else 1
    decode = _times(known.decode, kept * width / 2)
    pictures = _sum([decode, *(_times(score, 2) for score in scores)])  # rewards: float32
    searched = "search" in model
    return Memory(
        weights=_sum([_gigabytes(loaded, width), _gigabytes(rewards, 4)]),
        encoders=_gigabytes(encoders, width),
        step=None if searched else _times(known.step, calls * batch * width / 2),
        pictures=None if searched else _times(pictures, batch),
        stored=0 if searched else _stored(model, arguments),
    )


def file_bytes(need: Need) -> int | None:
    """Size of the published file of weights, as far as it is known before it is here."""
    known = PUBLISHED.get(need.source, UNKNOWN)
    count = known.parameters.get(need.folder)
    return None if count is None or known.width is None or not need.has_weights else count * known.width


def seconds_left(records: Sequence[Mapping[str, Any]], jobs: int) -> float | None:
    """What the jobs that are left will take, by the mean of those that are done; None before the first."""
    if not records:
        return None
    return (jobs - len(records)) * sum(record["seconds"] for record in records) / len(records)


def parameters(need: Need) -> int | None:
    """From the headers of the files where they are here, else from what is published."""
    found = need.look()
    weights = [path for path in found.files.values() if path.suffix == ".safetensors" and not broken(path)]
    if found.missing or not weights:
        return PUBLISHED.get(need.source, UNKNOWN).parameters.get(need.folder)
    count = 0
    for path in weights:
        with safe_open(path, "pt") as file:
            count += sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118  no mapping
    return count


def _stored(model: Mapping[str, Any], backbone: Mapping[str, Any]) -> int:
    if model["engine"] == "full":
        return backbone.get("steps", 1) - 1
    return model["store_steps"] if isinstance(model["store_steps"], int) else 0


def _gigabytes(needs: Sequence[Need], width: int) -> float | None:
    return _sum([_times(parameters(need), width / 1e9) for need in needs])


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _sum(values: Sequence[float | None]) -> float | None:
    return None if None in values else sum(values)  # type: ignore[arg-type]
