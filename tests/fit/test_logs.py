"""W&B: offline without a key, complete, and read back from its file."""

import json
import os
from pathlib import Path

import pytest
from offline_wandb import finished, history, records

from mira_pl.__main__ import main
from mira_pl.fit.cli import fit
from mira_pl.fit.logs import has_key
from mira_pl.runs import RunFolder


@pytest.fixture
def offline(arguments, tmp_path, monkeypatch) -> Path:
    """The .wandb file of a fit that was told nothing about W&B and has no key."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    fit([*arguments, "--wandb.mode", "auto", "--wandb.tags", "[night]", "--wandb.group", "darkness"])
    import wandb

    wandb.finish()
    return finished(tmp_path / "run")[0]


def test_offline_file_reads_back(offline, tmp_path):
    rows = [row for row in history(offline) if "round" in row]
    assert [(row["round"], row["iteration"]) for row in rows] == [(r, k) for r in range(3) for k in range(4)]
    for row in rows:  # no curve of one round has a value in another
        names = {name for name in row if "/" in name and name != "trainer/global_step"}
        assert {name.rpartition("/")[2] for name in names} == {f"round-{row['round'] + 1}"}
        columns = {name.rpartition("/")[0] for name in names}
        assert columns >= {"reward", "S0", "S", "drift", "noise_norm", "seconds", "score_difference"}
        assert ("grad_norm" in columns) is (row["iteration"] < 3)
        assert all(row[column] == row[f"{column}/round-{row['round'] + 1}"] for column in columns)
    trace = [row for row in RunFolder(tmp_path / "run").trace() if row["iteration"] == "1"]
    first, last = ([float(row["reward"]) for row in part] for part in (trace[:2], trace[4:]))
    assert rows[1]["reward/round-1"] == pytest.approx(sum(first) / 2)
    assert rows[9]["reward/round-3"] == pytest.approx(last[0])
    run = next(record.run for record in records(offline) if record.HasField("run"))
    assert run.run_group == "darkness"
    assert {"MIRA", "Brightness", "night"} <= set(run.tags)
    config = {item.key: item.value_json for item in run.config.update}
    assert '"iterations"' in config["model"]
    axes = [record.metric for record in records(offline) if record.HasField("metric")]
    assert any(metric.step_metric == "iteration" for metric in axes)
    updates = [item for record in records(offline) if record.HasField("summary") for item in record.summary.update]
    values = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in updates}
    rewards = [record["reward"] for record in RunFolder(tmp_path / "run").records()]
    assert values["reward"] == pytest.approx(sum(rewards) / 5) and "drift" in values and "clip" not in values


def test_pictures_and_table_are_logged(offline):
    logged = {key for row in history(offline) for key in row}
    for name in ("contact_sheet", "filmstrips", "records"):
        assert any(key.startswith(name) for key in logged)


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("mode", "online", "no key to go online"),
        ("project", "a/b c", "'a/b c' is no name of a project"),
        ("tags", f"[{'x' * 65}]", "1 to 64 characters"),
    ],
)
def test_what_wandb_would_refuse(capsys, arguments, tmp_path, monkeypatch, flag, value, words):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    assert main(["fit", *arguments, f"--wandb.{flag}", value]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_key_is_found_where_wandb_keeps_it(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "NETRC", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not has_key()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    os.chmod(tmp_path / ".netrc", 0o600)
    assert has_key()
    monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert has_key()


def test_a_fit_that_goes_on_continues_its_run(arguments, tmp_path, monkeypatch):
    """Two offline files of one run: id, group and job type are the same, and sync puts them together."""
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    import wandb

    identity = ["--wandb.id", "study-0007", "--wandb.group", "study", "--wandb.job_type", "trial", "--wandb.name", "t7"]
    for _ in range(2):
        fit([*arguments, "--wandb.mode", "offline", *identity])
        wandb.finish()
        (tmp_path / "run" / "records.jsonl").unlink()
    paths = finished(tmp_path / "run")
    runs = [record.run for path in paths for record in records(path) if record.HasField("run")]
    assert len({path.parent for path in paths}) == 2
    assert {(run.run_id, run.run_group, run.job_type, run.display_name) for run in runs} == {
        ("study-0007", "study", "trial", "t7")
    }
