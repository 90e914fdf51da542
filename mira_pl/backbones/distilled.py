"""Distilled models: what they were taught, and whether they fit the model in which they replace the denoiser."""

from collections.abc import Mapping
from typing import Any

from ..diffusion import Schedule
from ..hub import Need
from ..hub.need import read_json

TAUGHT = "_taught_at"
"""In a scheduler's configuration: the only timestep that a one-step model was taught, without guidance.

diffusers keeps names that begin with _ and reads none of them.
"""


def refuse_untaught(model: str, config: Mapping[str, Any], schedule: Schedule, guidance: float, right: str) -> None:
    """What a model was not taught it answers with rubbish, in silence.

    Args:
        model: its name.
        config: of its scheduler.
        schedule: by which it would be sampled.
        guidance: of the sampling.
        right: the settings that it was taught for.

    Raises:
        ValueError: the configuration says what it was taught, and this is something else.
    """
    taught = config.get(TAUGHT)
    if taught is not None and (guidance != 1 or schedule.timesteps != (taught,)):
        first, last = schedule.timesteps[0], schedule.timesteps[-1]
        asked = f"timestep {first:g}" if len(schedule.timesteps) == 1 else f"timesteps {first:g} .. {last:g}"
        raise ValueError(
            f"{model!r} was taught timestep {taught} alone, without guidance, but is asked at {asked} with guidance "
            f"{guidance:g}: set {right}"
        )


def refuse_misfit(needs: Mapping[str, Need], denoiser: str, reads: str, gives: str) -> None:
    """A denoiser from elsewhere must read what this text encoder and VAE give; what is not here yet is not looked at.

    Its size may be another: that of the pictures is then the denoiser's.

    Args:
        needs: of a backbone, by part.
        denoiser: which of them.
        reads: what its configuration calls the width of the text.
        gives: what that of the text encoder calls it.

    Raises:
        ValueError: it reads another width of text, or another number of latent channels.
    """
    student, text, vae = (described(needs.get(name)) for name in (denoiser, "text_encoder", "vae"))
    for what, wanted, part, given in (
        ("text {} wide", student.get(reads), "text_encoder", text.get(gives)),
        ("latents of {} channels", student.get("in_channels"), "vae", vae.get("latent_channels")),
    ):
        if isinstance(wanted, int) and isinstance(given, int) and wanted != given:
            raise ValueError(
                f"the student {needs[denoiser].source!r} does not fit {needs[part].source!r}: its {denoiser} reads "
                f"{what.format(wanted)}, the {part} gives {what.format(given)}; take a student of this model"
            )


def described(need: Need | None) -> dict[str, Any]:
    """The configuration of a network, as far as it is here."""
    files = {} if need is None else need.look().files
    return next((read_json(path) for path in files.values() if path.name == "config.json"), {})
