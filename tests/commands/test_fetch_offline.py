"""`fetch` where the hub cannot be asked."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from mira_pl.__main__ import main
from mira_pl.hub import Need

REPOSITORY = "models--us--words"


@pytest.mark.parametrize("complete", [True, False])
def test_what_is_complete_needs_no_hub(
    complete: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.setattr(constants, name, str(tmp_path) if name == "HF_HUB_CACHE" else True)
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / REPOSITORY / "snapshots" / "0" / "words"
    snapshot.mkdir(parents=True)
    (tmp_path / REPOSITORY / "refs").mkdir()
    (tmp_path / REPOSITORY / "refs" / "main").write_text("0")
    (snapshot / "vocab.json").write_text("{}")
    if complete:
        (snapshot / "merges.txt").write_text("")
    need = Need("us/words", "words", (("vocab.json",),))
    monkeypatch.setattr("mira_pl.commands.fetch.rounds", lambda config: [need])
    code, said = main(["fetch", "--config", "configs/emoji_clip.yaml"]), capsys.readouterr()
    assert code == (0 if complete else 2)
    assert ("not compared with the hub, which cannot be asked" in said.out) is complete
    assert ("HF_HUB_OFFLINE is set" in said.err) is not complete
