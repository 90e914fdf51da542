"""The experiments on the emoji world, on the packaged model, at tiny size."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mira_pl.__main__ import main
from mira_pl.experiments.hacking import Labelled
from mira_pl.experiments.strips import sheet
from mira_pl.runs import RunFolder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Short runs of two white animals towards darkness; of a search that ends early only start and result count."""
    folder = tmp_path_factory.mktemp("runs")
    learned = ["--model.iterations", "6", "--model.lr", "0.1"]
    flags = {"dno": learned, "mira": learned, "fk": ["--model.search.particles", "2"]}
    flags["best_of_n"] = ["--model.search.candidates", "10", "--data.budget", "unet: 24"]
    shared = ["--data.limit", "2", "--wandb.mode", "disabled", "--model.elbo_pairs", "1"]
    shared += ["--model.backbone.init_args.steps", "2"]
    for name, own in flags.items():
        configs = ["--config", "configs/emoji_darkness.yaml", "--config", f"configs/methods/{name}.yaml"]
        assert main(["fit", *configs, *shared, *own, "--out", str(folder / name)]) == 0
    return folder


@pytest.mark.slow
def test_hacking_tables(runs, tmp_path, capsys):
    out = tmp_path / "out"
    named = [f"{name.upper()}={runs / name}" for name in ("dno", "mira", "fk", "best_of_n")]
    assert main(["experiment", "hacking", *named, "--out", str(out)]) == 0
    outcome = pd.read_csv(out / "outcome.csv")
    assert outcome["method"].tolist() == ["DNO", "MIRA", "FK", "BEST_OF_N"]
    assert outcome["jobs"].tolist() == [2, 2, 2, 2]
    assert [float(cell[1:].split(",")[0]) for cell in outcome["unet"]] == [
        *([7 * (4 + 1)] * 2),  # six iterations and the last look, each with a look at the ELBO
        2 * 4 + 1,
        4 * (4 + 1) + 1,  # of four candidates, since a fifth would pass 24; the first one is the start, looked at twice
    ]
    path = pd.read_csv(out / "curves.csv")
    assert path.groupby("method", sort=False).size().tolist() == [6, 6, 2, 2]
    assert path["iteration"].max() == 6
    assert Image.open(out / "figure.png").size[0] > 100
    both = Image.open(out / "strips.png").size
    command = ["experiment", "hacking", f"DNO={runs / 'dno'}", "--out", str(out), "--keys"]
    assert main([*command, RunFolder(runs / "dno").records()[0]["key"]]) == 0
    assert Image.open(out / "strips.png").size[1] < both[1] / 2
    half = ["experiment", "hacking", f"DNO={runs / 'dno'}", "--out", str(out), "--skip", "1", "--within", "ELBO"]
    assert main([*half, "--limits", "0", "1000"]) == 0
    assert pd.read_csv(out / "outcome.csv")["jobs"].tolist() == [1]
    assert pd.read_csv(out / "within.csv")["limit"].tolist() == [0, 1000]
    assert main([*half, "--limits", "-1"]) == 2 and main([*half, "--skip", "2"]) == 2
    assert main([*command, "no-such-job"]) == 2
    assert "'no-such-job' is no job of" in capsys.readouterr().err
    assert main(["experiment", "hacking", "nonsense"]) == 2
    assert "NAME=FOLDER" in capsys.readouterr().err


@pytest.mark.slow
def test_the_sheet_shows_start_and_results(runs):
    """A row a run and a column a job: pixels are those of the run folders' pictures."""
    folders = {name: RunFolder(runs / name) for name in ("dno", "fk")}
    keys = [record["key"] for record in folders["dno"].records()]
    shown = [np.asarray(axes.get_images()[0].get_array()) for axes in sheet(labelled(folders), keys).axes]
    files = [folders["dno"].image_path(key, "base") for key in keys]
    files += [folder.image_path(key) for folder in folders.values() for key in keys]
    assert len(shown) == len(files) == 6
    for picture, file in zip(shown, files, strict=True):
        np.testing.assert_allclose(picture * 255, np.asarray(Image.open(file).convert("RGB")), atol=0.01)


def labelled(folders: dict[str, RunFolder]) -> list[Labelled]:
    return [Labelled(name, folder) for name, folder in folders.items()]


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
