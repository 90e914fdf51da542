"""What makes two configurations the same: the same bytes come out of both."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

IDENTITY = ("model", "data")  # the parts of a configuration that decide what a run computes
EFFORT = ("engine", "store_steps", "save_every")  # of the model: memory and time alone, not a bit of what comes out


def config_hash(config: Mapping[str, Any]) -> str:
    """Twelve hex digits of what decides the results: neither devices, nor loggers, nor the folder, nor `EFFORT`."""
    identity = {name: _deciding(config.get(name)) for name in IDENTITY}
    trainer = config.get("trainer")
    if isinstance(trainer, Mapping) and "mixed" in str(trainer.get("precision")):
        identity["precision"] = trainer["precision"]
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _deciding(part: Any) -> Any:
    """Settings without `EFFORT`; those of a named class are one level deeper."""
    if not isinstance(part, Mapping):
        return part
    kept = {name: value for name, value in part.items() if name not in EFFORT}
    return kept | ({"init_args": _deciding(kept["init_args"])} if "init_args" in kept else {})
