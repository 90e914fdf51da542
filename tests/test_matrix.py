"""The README's matrix of methods: a row for every overlay, and what it says they take is what they take."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import mira_pl.objectives
import mira_pl.searches
from mira_pl import Darkness, StableDiffusion
from mira_pl.backbones import Backbone
from mira_pl.objectives import Objective
from mira_pl.rewards import JPEGSize, Reward
from mira_pl.searches import Search

ROOT = Path(__file__).parent.parent
OVERLAYS = sorted((ROOT / "configs" / "methods").glob("*.yaml"))
PARTS = vars(mira_pl.objectives) | vars(mira_pl.searches)
ROW = re.compile(r"^\| [^|]+ \| `configs/methods/(\S+)\.yaml` \| .* \| (yes|no) \| (yes|no) \| (yes|no) \|$", re.M)


def rows() -> dict[str, list[str]]:
    """Black box, one step and eta 0, by overlay."""
    found = ROW.findall((ROOT / "README.md").read_text())
    return {name: cells for names, *cells in found for name in names.strip("{}").split(",")}


def made(part: Any) -> Any:
    """What a part of an overlay names."""
    if not isinstance(part, dict) or "class_path" not in part:
        return part
    return PARTS[part["class_path"]](**{name: made(value) for name, value in part.get("init_args", {}).items()})


def accepts(method: Objective | Search, backbone: Backbone, reward: Reward) -> str:
    try:
        method.check(backbone, reward, Darkness()) if isinstance(method, Objective) else method.check(backbone, reward)
    except ValueError:
        return "no"
    return "yes"


@pytest.fixture(scope="module")
def backbones(tiny_sd: Path) -> list[Backbone]:
    one = StableDiffusion(str(tiny_sd), steps=1, guidance=1.0, sampler="euler_ancestral")
    return [StableDiffusion(str(tiny_sd), steps=4), one, StableDiffusion(str(tiny_sd), steps=4, eta=0.0)]


def test_every_overlay_has_a_row():
    assert sorted(rows()) == [path.stem for path in OVERLAYS]


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_a_row_says_what_the_method_accepts(overlay, backbones):
    model = yaml.safe_load(overlay.read_text())["model"]
    method = made(model["objective"] if "objective" in model else model["init_args"]["search"])
    several, one, without_noise = backbones
    assert accepts(method, several, Darkness()) == "yes"
    found = [
        accepts(method, several, JPEGSize()),
        *(accepts(method, each, Darkness()) for each in (one, without_noise)),
    ]
    assert found == rows()[overlay.stem]
