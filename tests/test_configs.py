"""Every YAML file parses against the real signatures, alone or, for overlays, over every base."""

from pathlib import Path

import pytest
import yaml

import mira_pl.backbones
from mira_pl.fit.cli import FitCLI, OneLineParser
from mira_pl.fit.data import PromptData
from mira_pl.fit.defaults import DEFAULT_CONFIG
from mira_pl.fit.solver import Solver
from mira_pl.rewards import Reward
from mira_pl.world.training import Ticks, WorldTraining

ROOT = Path(__file__).parent.parent
BASES = sorted(path for path in (ROOT / "configs").glob("*.yaml"))
HARDWARE = sorted((ROOT / "configs" / "hardware").glob("*.yaml"))
REWARDS = sorted((ROOT / "configs" / "rewards").glob("*.yaml"))
METHODS = {path: yaml.safe_load(path.read_text())["model"] for path in (ROOT / "configs" / "methods").glob("*.yaml")}
OVERLAYS = sorted(path for path, model in METHODS.items() if "objective" in model)
SEARCHES = sorted(set(METHODS) - set(OVERLAYS))
QUICK = ("emoji_darkness", "emoji_turbo", "sdxl_hps")
UNDER_OVERLAYS = [
    pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.slow, id=path.stem) for path in BASES
]
WORLD = sorted((ROOT / "configs" / "world").glob("*.yaml"))


def parser(model: type, data: type) -> OneLineParser:
    """The parser that the CLI would build, without running anything."""
    result = OneLineParser(exit_on_error=False)
    result.add_argument("--config", action="config")
    result.add_subclass_arguments(model, "model")
    result.add_class_arguments(data, "data")
    FitCLI.add_arguments_to_parser(None, result)  # type: ignore[arg-type]
    result.add_argument("--trainer", type=dict)
    return result


@pytest.mark.parametrize("path", [Path(DEFAULT_CONFIG), *BASES], ids=lambda path: path.stem)
def test_fit_configs(path):
    model = parser(Solver, PromptData).parse_args(["--config", str(path)]).model.init_args
    assert model.backbone.class_path.rsplit(".", 1)[-1] in mira_pl.backbones.__all__
    assert model.lr > 0


def holds(found: object, wanted: object) -> bool:
    """Whether a parsed value is the written one; of a nested part, its class and what was written of its arguments."""
    if not isinstance(wanted, dict):
        return found == wanted
    arguments = wanted.get("init_args", {})
    return found.class_path.endswith(wanted["class_path"]) and all(
        holds(found.init_args[name], value) for name, value in arguments.items()
    )


@pytest.mark.parametrize("base", UNDER_OVERLAYS)
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_overlays_merge(base, overlay):
    both = parser(Solver, PromptData).parse_args(["--config", str(base), "--config", str(overlay)])
    wanted, objective = METHODS[overlay]["objective"], both.model.init_args.objective
    assert objective.class_path.endswith(wanted["class_path"])
    for name, value in wanted.get("init_args", {}).items():
        assert holds(objective.init_args[name], value)
    if wanted["class_path"] == "MIRA" and "beta" not in wanted["init_args"]:  # it keeps the reward's beta
        assert objective.init_args.beta == yaml.safe_load(base.read_text())["model"]["objective"]["init_args"]["beta"]


@pytest.mark.parametrize("base", UNDER_OVERLAYS)
@pytest.mark.parametrize("overlay", SEARCHES, ids=lambda path: path.stem)
def test_searches_replace_the_objective(base, overlay):
    both = parser(Solver, PromptData).parse_args(["--config", str(base), "--config", str(overlay)])
    wanted, given = METHODS[overlay]["init_args"]["search"], yaml.safe_load(base.read_text())["model"]
    assert both.model.class_path == "mira_pl.fit.NoiseSearch" and "objective" not in both.model.init_args
    search = both.model.init_args.search
    assert search.class_path.endswith(wanted["class_path"])
    assert {name: search.init_args[name] for name in wanted["init_args"]} == wanted["init_args"]
    assert both.model.init_args.backbone.class_path.endswith(given["backbone"]["class_path"])


def alone(path):
    """The parsed reward of a config, all of its arguments filled in."""
    one = OneLineParser(exit_on_error=False)
    one.add_argument("--reward", type=Reward)
    return one.parse_object({"reward": yaml.safe_load(path.read_text())["model"]["reward"]}).reward


@pytest.mark.parametrize("base", UNDER_OVERLAYS)
@pytest.mark.parametrize("overlay", REWARDS, ids=lambda path: path.stem)
def test_rewards_replace_the_reward(base, overlay):
    """Whole: nothing of the base's reward is left in it, and nothing else changes."""
    given = yaml.safe_load(overlay.read_text())
    assert list(given) == ["model"] and list(given["model"]) == ["reward"]
    both = parser(Solver, PromptData).parse_args(["--config", str(base), "--config", str(overlay)])
    assert both.model.init_args.reward == alone(overlay)


def test_renos_sum_is_that_of_the_config_that_has_it_built_in():
    assert alone(ROOT / "configs" / "rewards" / "reno.yaml") == alone(ROOT / "configs" / "pixart_compbench.yaml")


@pytest.mark.parametrize("overlay", HARDWARE, ids=lambda path: path.stem)
def test_hardware_overlays_change_no_result(overlay):
    """They say how and where, never what: beside the trainer they may set memory and batch alone."""
    given = yaml.safe_load(overlay.read_text())
    parser(Solver, PromptData).parse_args(["--config", str(BASES[0]), "--config", str(overlay)])
    assert set(given) <= {"model", "data", "trainer"}
    assert set(given.get("model", {})) <= {"store_steps"} and set(given.get("data", {})) <= {"batch_size"}


@pytest.mark.parametrize("path", WORLD, ids=lambda path: path.stem)
def test_world_configs(path):
    import mira_pl.world.trainers  # noqa: F401

    config = parser(WorldTraining, Ticks).parse_args(["--config", str(path)])
    assert config.model.init_args.steps > 0
