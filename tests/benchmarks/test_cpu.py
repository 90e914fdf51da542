"""The benchmark of the CPU, whole, with few steps."""

import json

import pytest

from benchmarks.__main__ import parser


@pytest.mark.slow
def test_every_contender_runs(tmp_path):
    args = parser.parse_args(["cpu", "--steps", "4", "--rounds", "1", "--json", str(tmp_path / "cpu.json")])
    args.main(args)
    content = json.loads((tmp_path / "cpu.json").read_text())
    rows = {row["contender"]: row for row in content["rows"]}
    assert len(rows) == 9 and rows["ours"]["ratio_to_ours"] == 1 and content["threads"] > 0
    assert all(row["seconds_per_iteration"] > 0 for row in rows.values())
    peaks = {name: row["peak_bytes"] for name, row in rows.items()}
    assert peaks["full"] > 1.5 * peaks["checkpoint"] and peaks["full, bfloat16"] < 0.8 * peaks["full"]
