"""The benchmark of the CPU, whole, with few steps."""

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import parser


@pytest.mark.slow
def test_every_contender_runs(tmp_path):
    content = run(tmp_path / "cpu.json")
    rows = {row["contender"]: row for row in content["rows"]}
    assert len(rows) == 9 and rows["ours"]["ratio_to_ours"] == 1 and content["threads"] > 0
    assert all(row["seconds_per_iteration"] > 0 for row in rows.values())
    peaks = {name: row["peak_bytes"] for name, row in rows.items()}
    assert peaks["full"] > 1.5 * peaks["checkpoint"] and peaks["full, bfloat16"] < 0.8 * peaks["full"]
    (alone,) = run(tmp_path / "one.json", "--contenders", "full, MIRA")["rows"]
    assert alone["contender"] == "full, MIRA" and alone["ratio_to_ours"] is None
    with pytest.raises(SystemExit, match="no contender 'mine': there are 'ours', "):
        run(tmp_path / "none.json", "--contenders", "mine")


def run(file: Path, *flags: str) -> dict:
    """What the command writes."""
    args = parser.parse_args(["cpu", "--steps", "4", "--rounds", "1", "--json", str(file), *flags])
    args.main(args)
    return json.loads(file.read_text())
