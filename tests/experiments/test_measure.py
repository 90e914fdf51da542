"""The experiments on the emoji world, on the packaged model, at tiny size."""

import pandas as pd
import pytest
from PIL import Image

from mira_pl.__main__ import main
from mira_pl.runs import RunFolder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two short runs of two white animals towards darkness."""
    folder = tmp_path_factory.mktemp("runs")
    flags = [
        "--model.backbone.init_args.steps",
        "4",
        "--model.iterations",
        "6",
        "--model.elbo_pairs",
        "1",
        "--model.lr",
        "0.1",
    ]
    shared = ["fit", "--config", "configs/emoji_darkness.yaml", "--data.limit", "2", "--wandb.mode", "disabled", *flags]
    for name in ("dno", "mira"):
        assert main([*shared, "--config", f"configs/methods/{name}.yaml", "--out", str(folder / name)]) == 0
    return folder


def test_hacking_tables(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["experiment", "hacking", f"DNO={runs / 'dno'}", f"MIRA={runs / 'mira'}", "--out", str(out)]) == 0
    outcome = pd.read_csv(out / "outcome.csv")
    assert outcome["method"].tolist() == ["DNO", "MIRA"]
    assert outcome["jobs"].tolist() == [2, 2]
    path = pd.read_csv(out / "curves.csv")
    assert path.groupby("method").size().tolist() == [6, 6]
    assert path["iteration"].max() == 6
    assert Image.open(out / "figure.png").size[0] > 100
    both = Image.open(out / "strips.png").size
    command = ["experiment", "hacking", f"DNO={runs / 'dno'}", "--out", str(out), "--keys"]
    assert main([*command, RunFolder(runs / "dno").records()[0]["key"]]) == 0
    assert Image.open(out / "strips.png").size[1] < both[1] / 2
    assert main([*command, "no-such-job"]) == 2
    assert "'no-such-job' is no job of" in capsys.readouterr().err
    assert main(["experiment", "hacking", "nonsense"]) == 2
    assert "NAME=FOLDER" in capsys.readouterr().err


def test_world_quality(tmp_path, capsys):
    assert (
        main(["experiment", "world-quality", "--seeds", "1", "--steps", "3", "--limit", "2", "--out", str(tmp_path)])
        == 0
    )
    rates = pd.read_csv(tmp_path / "rates.csv")
    assert rates["count"].tolist() == [2, 2, 2, 2]
    assert rates["value"].between(0, 1).all()
    assert "CMMD" in capsys.readouterr().out
    assert main(["experiment", "nonsense"]) == 2
