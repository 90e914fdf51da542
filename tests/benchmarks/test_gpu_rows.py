"""The benchmark of real architectures, whole, at tiny size on the CPU; and its arithmetic."""

import json
import re
from pathlib import Path

import pytest
import torch
from compilers import NEEDS_COMPILER
from torch._dynamo.utils import counters

from benchmarks.__main__ import parser
from benchmarks.report import Row, compared, linearity

ROOT = Path(__file__).parents[2]


def run(file: Path, *flags: str) -> dict:
    """What `python -m benchmarks gpu` writes."""
    args = parser.parse_args(["gpu", "--json", str(file), *flags])
    args.main(args)
    return json.loads(file.read_text())


def check(rows: list[dict]) -> None:
    """Every number is there, and the ratios are those of the seconds."""
    base = {row["name"]: row["seconds_per_iteration"] for row in rows if row["contender"] == "ours"}
    for row in rows:
        assert row["note"] == "" and row["seconds_per_iteration"] > 0 and row["peak_bytes"] > 0
        assert row["ratio_to_ours"] == pytest.approx(row["seconds_per_iteration"] / base[row["name"]])
        assert row["images_per_hour"] == pytest.approx(3600 / 50 / row["seconds_per_iteration"])
        assert 0 < row["mfu"] <= row["hfu"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so_and_invents_nothing(tmp_path, capsys):
    content = run(tmp_path / "gpu.json")
    assert capsys.readouterr().out == "no CUDA device here: nothing was measured\n"
    assert content["rows"] == [] and content["card"] is None and content["torch"] == torch.__version__


TINY = ("--size", "tiny", "--device", "cpu", "--prompts", "2", "--warmup", "1", "--repeats", "1")


@pytest.mark.slow
def test_one_step_models(tmp_path, capsys):
    rows = run(tmp_path / "gpu.json", *TINY, "--models", "turbo", "pixart")["rows"]
    check(rows)
    contenders = ["ours", "full", "checkpoint", "walk", "reno", "lightning"]
    assert [row["contender"] for row in rows] == 2 * contenders
    assert {row["name"] for row in rows} == {"tiny turbo T=1 prompts=2", "tiny pixart T=1 prompts=2"}
    assert "ceilings: " in capsys.readouterr().out


@NEEDS_COMPILER
@pytest.mark.slow
def test_options_of_ours(tmp_path):
    """Compiled on a CPU nothing is said of memory; the loops of others stay as they are."""
    flags = ("--models", "pixart", "--contenders", "walk", "reno", "--compile", "regional", "--channels-last")
    torch._dynamo.reset()
    before = counters["stats"]["unique_graphs"]
    content = run(tmp_path / "gpu.json", *TINY, *flags)
    ours, theirs = content["rows"]
    assert counters["stats"]["unique_graphs"] > before
    assert content["compile"] == "regional" and content["channels_last"] is True
    assert ours["peak_bytes"] is None and theirs["peak_bytes"] > 0
    assert ours["first_seconds"] > 0 and ours["seconds_per_iteration"] > 0


@pytest.mark.slow
def test_models_of_many_steps(tmp_path, capsys):
    content = run(tmp_path / "gpu.json", *TINY, "--models", "sd15", "--steps", "2", "4")
    check(content["rows"])
    by_name = {(row["contender"], row["steps"]): row for row in content["rows"]}
    peaks = {key: row["peak_bytes"] for key, row in by_name.items()}
    assert peaks["full", 4] > 1.4 * peaks["full", 2] and peaks["walk", 4] < 1.1 * peaks["walk", 2]
    prompts = {row["contender"]: row["prompts"] for row in content["rows"]}
    alone = {"dno_shipped": 1, "dno_mended": 1}
    assert prompts == {"ours": 2, "full": 2, "checkpoint": 2, "walk": 2, "lightning": 2} | alone
    (direction,) = content["directions"]
    assert direction["finite"] and direction["cosine"] > 0.99 and direction["goal_bytes"] is None
    told = capsys.readouterr().out
    assert "s a step and" in told and "gradient's cosine" in told


def test_ratios_stay_within_their_group():
    rows = [
        Row("a", "ours", 2, 1, 2.0),
        Row("a", "walk", 2, 1, 3.0),
        Row("b", "walk", 4, 1, 3.0),
        Row("a", "full", 2, 1),
    ]
    assert [row.ratio_to_ours for row in compared(rows)] == [1.0, 1.5, None, None]


def test_the_line_through_steps():
    rows = [Row("a", "ours", steps, 1, 0.5 + 0.25 * steps) for steps in (10, 25, 50, 100)]
    assert linearity([*rows, Row("a", "ours", 200, 1)]) == pytest.approx((0.25, 0.5))
    assert linearity(rows[:1]) is None


def test_the_commands_of_the_pages_are_understood():
    commands = re.findall(r"^python -m benchmarks (.*?)\s*(?:#.*)?$", (ROOT / "docs" / "gpu.md").read_text(), re.M)
    assert len(commands) >= 5
    commands += re.findall(r"`((?:gpu|cpu|scaling)\b[^`]*)`", (ROOT / "docs" / "performance.md").read_text())
    assert len(commands) >= 20
    for command in commands:
        parser.parse_args(command.split())
