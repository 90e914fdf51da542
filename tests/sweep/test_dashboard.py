"""The W&B workspace as code: every name in it is one that a fit logs."""

import json
from pathlib import Path

import pytest
import wandb
from offline_wandb import finished, history, records
from wandb_workspaces.workspaces import Workspace
from wandb_workspaces.workspaces.internal import View

from mira_pl.__main__ import main
from mira_pl.fit.cli import fit
from mira_pl.sweep.dashboard import as_json, workspace

FLAGS = {
    "model.backbone.steps": "2", "model.iterations": "3", "model.film_frames": "1", "data.prompts": '["a white cat"]',
    "trainer.enable_progress_bar": "false", "wandb.mode": "offline",
}  # fmt: skip


@pytest.fixture(scope="module")
def logged(tmp_path_factory) -> Path:
    """The .wandb file of a fit of the emoji world."""
    out = tmp_path_factory.mktemp("fit") / "run"
    fit([word for key, value in FLAGS.items() for word in (f"--{key}", value)] + ["--out", str(out)])
    wandb.finish()
    return finished(out)[0]


def panels() -> list[dict]:
    """Of all sections, as they would be sent."""
    sections = json.loads(as_json(workspace("someone", "mira_pl")))["spec"]["section"]["panelBankConfig"]["sections"]
    return [panel for section in sections for panel in section["panels"]]


def names(value: object, *keys: str) -> set[str]:
    """Every text under one of the keys, anywhere in a JSON value."""
    if isinstance(value, list):
        return set().union(*(names(one, *keys) for one in value))
    if not isinstance(value, dict):
        return set()
    found = set().union(*(names(one, *keys) for one in value.values()))
    held = [value[key] for key in keys if key in value]
    return found | {text for one in held for text in (one if isinstance(one, list) else [one]) if isinstance(text, str)}


def test_every_metric_picture_and_setting_is_logged(logged):
    rows = history(logged)
    curves = {key for row in rows for key in row}
    run = next(record.run for record in records(logged) if record.HasField("run"))
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    shown = panels()
    axes = names(shown, "metrics", "xAxis", "yAxis", "accessor")
    curves_shown = {name.removeprefix("summary:") for name in axes if not name.startswith("config:")}
    assert curves_shown == {"reward", "drift", "clip", "iteration"} and curves_shown <= curves
    pictures = names(shown, "mediaKeys")
    assert pictures == {"contact_sheet", "filmstrips"}
    assert all(any(key.startswith(name) for key in curves) for name in pictures)
    settings = {name.removeprefix("config:").replace(".value", "") for name in axes if name.startswith("config:")}
    assert settings == {"model.objective.init_args.beta", "model.lr"}
    assert all(leaf(config, name) is not None for name in settings)
    assert names(shown, "groupBy") == {"method.value"} and config["method"] == "MIRA"


def leaf(config: dict, name: str) -> object:
    """The value of a dotted key."""
    value: object = config
    for part in name.split("."):
        assert isinstance(value, dict) and part in value, f"{name}: no {part}"
        value = value[part]
    return value


def test_the_library_reads_it_back():
    made = workspace("someone", "mira_pl")
    again = Workspace._from_model(View.model_validate_json(made._to_model().model_dump_json(by_alias=True)))
    assert [section.name for section in again.sections] == ["Over the iterations", "Trials", "Pictures"]
    assert [len(section.panels) for section in again.sections] == [3, 2, 2]


def test_without_a_key_the_json_is_written_and_said(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    out = tmp_path / "board.json"
    assert main(["dashboard", "--project", "mine", "--push", "--out", str(out)]) == 0
    assert "no key" in capsys.readouterr().out and json.loads(out.read_text())
    assert main(["dashboard", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
