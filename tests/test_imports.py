"""Imports point one way: a file may import from its own level or from a level to its left."""

import ast
from pathlib import Path

import pytest

import mira_pl

ROOT = Path(mira_pl.__file__).parent
LEVELS = (
    ("types", "assets", "text", "ranges"),
    ("hub",),
    ("noise", "diffusion", "flow", "schedules", "prompt_files", "prompt_sets", "prompts"),
    ("drift", "backbones", "rewards"),
    ("trajectory",),
    ("problem",),
    ("memory",),
    ("objectives", "searches"),
    ("identity", "runs"),
    ("fit", "finetune"),
    ("align", "world"),
    ("metrics", "judges"),
    ("sweep", "experiments"),
    ("commands",),
    ("__init__", "__main__"),
)
LEVEL = {part: number for number, parts in enumerate(LEVELS) for part in parts}
MATHS = {part for parts in LEVELS[: LEVEL["runs"]] for part in parts}
TRAINERS = {"lightning", "pytorch_lightning", "lightning_fabric", "wandb", "optuna"}


def part_of(file: Path) -> str:
    """The module or subpackage right under mira_pl that a file belongs to."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(source: str, package: tuple[str, ...]) -> list[str]:
    """Absolute dotted names of everything a module imports, anywhere in it; `package` is the one it lies in."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            found += [".".join([*base, alias.name]) for alias in node.names]
    return found


def violations(source: str, part: str, package: tuple[str, ...]) -> list[str]:
    """Imports that point to the right, and trainers in the maths."""
    wrong = []
    for name in imports(source, package):
        top, *rest = name.split(".")
        if top == "mira_pl" and LEVEL[rest[0] if rest and rest[0] in LEVEL else "__init__"] > LEVEL[part]:
            wrong.append(name)
        if part in MATHS and top in TRAINERS:
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_to_the_left(file: Path) -> None:
    part = part_of(file)
    assert part in LEVEL, f"give {part!r} its place in LEVELS"
    assert not violations(file.read_text(), part, ("mira_pl", *file.relative_to(ROOT).parts[:-1]))


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("noise", "from .drift import surrogate"),
        ("noise", "from . import problem"),
        ("objectives", "from ..fit.module import NoiseAlignment"),
        ("objectives", "def late():\n    import mira_pl.runs"),
        ("rewards", "from ..world.scenes import TEMPLATE"),
        ("fit", "from mira_pl import align"),
        ("experiments", "import mira_pl"),
        ("trajectory", "import lightning as L"),
        ("searches", "from optuna import Study"),
        ("problem", "import wandb.sdk"),
    ],
)
def test_what_points_to_the_right_is_found(part: str, source: str) -> None:
    package = ("mira_pl",) if (ROOT / f"{part}.py").exists() else ("mira_pl", part)
    assert violations(source, part, package)
