"""The experiments on the emoji world, on the packaged model, at tiny size."""

import pandas as pd
import pytest
from PIL import Image

from mira_pl.__main__ import main
from mira_pl.runs import RunFolder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Short runs of two white animals towards darkness; a search of one round has no filmstrip."""
    folder = tmp_path_factory.mktemp("runs")
    learned = ["--model.iterations", "6", "--model.lr", "0.1"]
    flags = {"dno": learned, "mira": learned, "fk": ["--model.search.particles", "2"]}
    shared = ["--data.limit", "2", "--wandb.mode", "disabled", "--model.elbo_pairs", "1"]
    shared += ["--model.backbone.init_args.steps", "2"]
    for name, own in flags.items():
        configs = ["--config", "configs/emoji_darkness.yaml", "--config", f"configs/methods/{name}.yaml"]
        assert main(["fit", *configs, *shared, *own, "--out", str(folder / name)]) == 0
    return folder


@pytest.mark.slow
def test_hacking_tables(runs, tmp_path, capsys):
    out = tmp_path / "out"
    named = [f"{name.upper()}={runs / name}" for name in ("dno", "mira", "fk")]
    assert main(["experiment", "hacking", *named, "--out", str(out)]) == 0
    outcome = pd.read_csv(out / "outcome.csv")
    assert outcome["method"].tolist() == ["DNO", "MIRA", "FK"]
    assert outcome["jobs"].tolist() == [2, 2, 2]
    path = pd.read_csv(out / "curves.csv")
    assert path.groupby("method", sort=False).size().tolist() == [6, 6, 2]
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
