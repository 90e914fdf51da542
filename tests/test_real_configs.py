"""The paper's configs run as they stand, offline, from a hub cache that holds tiny models of the real classes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.yaml") if not path.stem.startswith("emoji"))
RUN = """
import sys
from mira_pl.fit.cli import fit
for name in sys.argv[2:]:
    steps = [] if "pixart" in name or "turbo" in name else ["--model.backbone.init_args.steps", "3"]
    fit(["--config", f"configs/{name}.yaml", "--model.iterations", "2", "--data.limit", "2", *steps,
         "--out", f"{sys.argv[1]}/{name}", "--wandb.mode", "disabled", "--trainer.enable_progress_bar", "false",
         "--trainer.accelerator", "cpu"])
"""


@pytest.mark.slow
def test_every_config_runs_offline_from_the_cache(home: Path, tmp_path: Path) -> None:
    names = [path.stem for path in CONFIGS]
    assert {"sdxl_hps", "sdxl_turbo_hps", "sd15_aesthetic", "pixart_compbench"} <= set(names)
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path), *names], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in names:
        records = [json.loads(line) for line in (tmp_path / name / "records.jsonl").read_text().splitlines()]
        wanted = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
        assert [record["status"] for record in records] == ["finished"] * 2, name
        assert all(record["clip"] is not None and record["iterations"] == 2 for record in records)
        assert all(record["method"] == wanted["model"]["objective"]["class_path"] for record in records)


def test_without_the_weights_it_is_one_line(tmp_path: Path) -> None:
    environment = os.environ | {"HF_HOME": str(tmp_path / "empty"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "mira_pl", "fit", "--config", "configs/sdxl_hps.yaml", "--out", str(tmp_path / "run")],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("mira_pl:")]
    assert "stabilityai/stable-diffusion-xl-base-1.0" in line or "hpdv2/anime" in line
