"""What stands below the configs of a command line: the emoji world, where none of them brings a model of its own."""

import argparse
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

DEFAULT_CONFIG = str(files("mira_pl") / "assets" / "configs" / "emoji.yaml")


def below(argv: Sequence[str]) -> list[str]:
    """Flags that come before `argv`: none where a config names a backbone, so that an overlay runs alone."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    try:
        named, _ = parser.parse_known_args(argv)
        brought = any(names_backbone(yaml.safe_load(Path(config).read_text())) for config in named.config)
    except (argparse.ArgumentError, OSError, UnicodeDecodeError, yaml.YAMLError):
        brought = True  # the real parser says what is wrong with it
    return [] if brought else ["--config", DEFAULT_CONFIG]


def names_backbone(config: Any) -> bool:
    """Whether a parsed config says of which class its backbone is."""
    model = config.get("model") if isinstance(config, dict) else None
    inner = model.get("init_args", model) if isinstance(model, dict) else None
    backbone = inner.get("backbone") if isinstance(inner, dict) else None
    return isinstance(backbone, str) or (isinstance(backbone, dict) and "class_path" in backbone)
