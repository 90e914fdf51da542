"""How much memory a run will take, as far as that is known before it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from safetensors import safe_open

from ..hub import Need
from ..hub.loading import broken
from ..hub.published import Cost
from .parts import Parts, published, scores

WIDTH = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
RECOMPUTED = 0.5  # of the decoder's activations with `checkpoint_vae`: 0.52 at 512 pixels, 0.49 at 1024


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


def memory(parts: Parts) -> Memory:
    """From counts of parameters and of the bytes that autograd keeps, see `mira_pl.hub.published`.

    Of a search the weights alone are known: nobody has counted what its particles keep.
    """
    width, backbone, arguments = WIDTH[parts.dtype], parts.backbone, parts.arguments
    loaded = [need for name, need in backbone.items() if name in ("unet", "transformer", "vae")]
    loaded = loaded or [*backbone.values()]  # a single file of which more is not known yet
    again = [backbone["unet"]] * (parts.networks - 1) if "unet" in backbone else []  # without the LoRAs
    on_device = not arguments.get("t5_on_cpu")
    encoders = [need for name, need in backbone.items() if name.startswith("text_encoder") and on_device]
    rewards = list(dict.fromkeys(parts.scorers("reward", "clip")))
    pictures = _sum([_decoding(parts), *map(_kept, scores(rewards))])
    return Memory(
        weights=_sum([_gigabytes([*loaded, *again], width), _gigabytes(rewards, 4)]),
        encoders=_gigabytes(encoders, width),
        step=None if parts.searched else step_gigabytes(parts),
        pictures=None if parts.searched else _times(pictures, parts.batch),
        stored=0 if parts.searched else _stored(parts),
    )


def step_gigabytes(parts: Parts) -> float | None:
    """Activations of one sampling step of a batch."""
    return _times(_kept(parts.known.step), parts.branches * parts.batch * WIDTH[parts.dtype] / 2)


def file_bytes(need: Need) -> int | None:
    """Size of the published file of weights, as far as it is known before it is here."""
    known = published(need)
    count = known.parameters.get(need.folder)
    return None if count is None or known.width is None or not need.has_weights else count * known.width


def parameters(need: Need) -> int | None:
    """From the headers of the files where they are here, else from what is published."""
    found = need.look()
    weights = [path for path in found.files.values() if path.suffix == ".safetensors" and not broken(path)]
    if found.missing or not weights:
        return published(need).parameters.get(need.folder)
    count = 0
    for path in weights:
        with safe_open(path, "pt") as file:
            count += sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118  no mapping
    return count


def _stored(parts: Parts) -> int:
    if parts.model["engine"] == "full":
        return parts.steps - 1
    return parts.model["store_steps"] if isinstance(parts.model["store_steps"], int) else 0


def _decoding(parts: Parts) -> float | None:
    kept = RECOMPUTED if parts.arguments.get("checkpoint_vae") else 1
    return _times(_kept(parts.known.decode), kept * WIDTH[parts.dtype] / 2)


def _kept(cost: Cost | None) -> float | None:
    return None if cost is None else cost.kept


def _gigabytes(needs: Sequence[Need], width: int) -> float | None:
    return _sum([_times(parameters(need), width / 1e9) for need in needs])


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _sum(values: Sequence[float | None]) -> float | None:
    return None if None in values else sum(values)  # type: ignore[arg-type]
