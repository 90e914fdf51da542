"""The page says what the records say, obeys no prompt, and needs nothing but itself."""

import base64
import hashlib
import math
import re
import shutil
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mira_pl.__main__ import main
from mira_pl.experiments.page import Picture, ShownRun, page
from mira_pl.prompts import expand, make_jobs
from mira_pl.runs import RunFolder

EVIL = (
    "</h3><script>alert('1')</script><img src=\"http://evil.example/x.png\" onerror=alert(1)> &lt; \u202e\x00\x07\u2028"
)
VOID = {"meta", "link", "img", "input"}


class Tree(HTMLParser):
    """Every tag with its attributes and text; fails where a tag is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.nodes: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[int] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.nodes.append((tag, dict(attrs), []))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self.open.append(len(self.nodes) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.nodes[self.open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for place in self.open:
            self.nodes[place][2].append(data)

    def all(self, tag: str, kind: str = "") -> list[tuple[dict[str, str | None], str]]:
        """Attributes and text of every `tag` with the class `kind`."""
        found = [(attrs, "".join(text)) for name, attrs, text in self.nodes if name == tag]
        return [(attrs, text) for attrs, text in found if not kind or kind in (attrs.get("class") or "").split()]


def record(key: str, prompt: str = "a cat", **more: Any) -> dict[str, Any]:
    number = 1 + len(key) / 7
    return {
        "key": key, "prompt": prompt, "seed": 3, "method": "MIRA", "reward_name": "Darkness",
        "reward_start": -0.5123456, "reward": number / 3, "drift": -number / 11, "S0": 812.5, "S": 812.5 + number,
        "clip_start": 0.3125, "clip": 0.29 / number,
        "noise_norm": 143.2345, "iterations": 2, "status": "finished", "seconds": 41.25, "peak_memory_bytes": 3 * 2**20,
        "compute": {"unet": 2040, "vae": 51, "reward": 52, "backward": 50}, "config_hash": "0123456789ab",
        "versions": {"torch": "2.13.0"}, "score_difference": 0.25 * number, "elbo": 0.001,
    } | more  # fmt: skip


def trace(key: str, *rewards: float) -> list[dict[str, Any]]:
    return [
        {"key": key, "iteration": k, "reward": reward, "drift": -reward / 2, "clip": 0.3}
        for k, reward in enumerate(rewards)
    ]


def shown(name: str = "run", **more: Any) -> ShownRun:
    """A run in memory: two jobs, no pictures."""
    held: dict[str, Any] = {
        "config": {"model": {"lr": 0.01}},
        "records": [record("a", reward_start=-1.0, reward=0.5), record("bb")],
        "trace": [{n: str(v) for n, v in row.items()} for row in trace("a", -1, 0, 0.5) + trace("bb", -3, -2, -0.5)],
        "pictures": {},
    }
    return ShownRun(name, **held | more)


def write_run(path: Path, prompts: list[str], done: int, lr: float = 0.01, side: int = 8) -> RunFolder:
    """A run folder, made by its own methods, whose first jobs are finished."""
    run, jobs = RunFolder(path), make_jobs(expand(prompts, None), [3])
    run.prepare({"model": {"lr": lr}, "data": {"prompts": prompts, "seeds": [3]}, "trainer": {"devices": 1}})
    order = [job.key for job in jobs]
    for job in jobs[:done]:
        start, result = torch.full((3, side, side), -0.5), torch.rand(3, side, side)
        run.save_images(job.key, {"prompt": job.prompt}, start, result, [start])
    rows = [row for job in jobs[:done] for row in trace(job.key, 0.0, lr)]
    run.add([record(job.key, job.prompt) for job in jobs[:done]], rows, order)
    return run


def check_alone(text: str) -> Tree:
    """The page parses, reaches for nothing outside itself, and runs our own script only."""
    tree = Tree(text)
    for tag, attrs, _ in tree.nodes:
        assert not any(name.startswith("on") for name in attrs), f"{tag} with a handler"
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            assert (attrs.get(name) or "data:").startswith("data:"), attrs[name]
    script = (files("mira_pl.experiments") / "page.js").read_text(encoding="utf-8")
    assert [source for _, source in tree.all("script")] == [script]
    assert "url(" not in tree.all("style")[0][1] and "@import" not in tree.all("style")[0][1]
    return tree


def test_the_policy_of_the_page_forbids_the_network_and_foreign_scripts() -> None:
    tree = check_alone(page([shown()]))
    policy = next(a["content"] or "" for a, _ in tree.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    ours = base64.b64encode(hashlib.sha256(tree.all("script")[0][1].encode()).digest()).decode()
    rules = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{}'"
    assert policy == rules.format(ours)


def test_a_prompt_is_shown_and_not_obeyed() -> None:
    runs = [shown(records=[record("a", EVIL)])]
    tree, plain = check_alone(page(runs)), Tree(page([shown(records=[record("a", "x" * len(EVIL))])]))
    assert [tag for tag, _, _ in tree.nodes] == [tag for tag, _, _ in plain.nodes]
    visible = EVIL.replace("\x00", "␀").replace("\x07", "␇")
    assert visible in [text for _, text in tree.all("p", "find")]


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_categories=()), min_size=1), st.text(min_size=1))
@example(EVIL, "\"><b>'&")
@example("\ud800\x85\ufffe-->]]>", "\ud800")
@example("x" * 10_240, "runs/<x>")
def test_no_text_changes_the_structure_of_the_page(prompt: str, name: str) -> None:
    records = [record("a", prompt, status=prompt, method=prompt, reward_name=prompt, seed=prompt, config_hash=prompt)]
    config = {prompt: {"x": prompt}}
    tree = check_alone(page([shown(name, records=records, config=config), shown(name + "2")]))
    harmless = [record("a", "y" * len(prompt if prompt.strip() else "(empty prompt)"))]
    plain = Tree(page([shown(records=harmless, config={"y": {"x": 1}}), shown()]))
    assert [tag for tag, _, _ in tree.nodes] == [tag for tag, _, _ in plain.nodes]
    page([shown(name)]).encode()


def test_a_long_prompt_is_cut_with_the_whole_of_it_folded() -> None:
    prompt = "first words " + "x" * 10_240 + " last words"
    tree = Tree(page([shown(records=[record("a", prompt)])]))
    heading = tree.all("h3")[0][1]
    assert heading.startswith("first words") and heading.endswith("…") and len(heading) < 100
    assert "all 10,263 characters" in [text for _, text in tree.all("summary")]
    assert prompt in [text for _, text in tree.all("p", "find")]


def values(fragment: str) -> list[float]:
    return [float(attrs["value"] or "") for attrs, _ in Tree(fragment).all("data")]


def article(text: str, place: int = 0) -> str:
    return re.findall(r"<article.*?</article>", text, re.DOTALL)[place]


def test_the_numbers_of_a_card_are_those_of_its_record() -> None:
    one = record("bb")
    headline = [one["reward_start"], one["reward"]]
    rows = [one["reward"] - one["reward_start"], one["drift"], one["score_difference"], one["clip_start"], one["clip"]]
    more = [one["iterations"], one["seconds"], one["S0"], one["S"], one["elbo"], one["noise_norm"], 2040, 51, 52, 50, 3]
    assert values(article(page([shown()]), 1)) == headline + rows + more


def test_the_summary_gives_mean_least_and_greatest() -> None:
    seen = values(re.findall(r"<table class=\"summary.*?</table>", page([shown()]), re.DOTALL)[0])
    a, b = record("a", reward_start=-1.0, reward=0.5), record("bb")
    for name in ("reward_start", "reward", "drift", "score_difference", "clip"):
        expected = [math.fsum([a[name], b[name]]) / 2, min(a[name], b[name]), max(a[name], b[name])]
        assert any(seen[k : k + 3] == expected for k in range(len(seen))), name
    for equal in (0.3125, 41.25, 2040.0, 51.0, 52.0, 50.0):
        assert equal in seen


def test_a_number_that_is_missing_is_a_dash() -> None:
    records = [
        record(
            "a", reward=None, clip=None, clip_start=None, score_difference=None, elbo=None, status="failed: not finite"
        )
    ]
    text = page([shown(records=records, trace=trace("a", math.nan, math.inf))])
    tree = check_alone(text)
    assert "nan" not in " ".join(t for _, t in tree.all("main")).lower() and "CLIPScore" not in article(text)
    assert tree.all("span", "change")[0][1] == "−0.512→–"
    assert [t for _, t in tree.all("span", "bad")] == ["failed: not finite"]


def test_every_trace_column_has_its_chart_and_empty_ones_have_none() -> None:
    titles = [text.split()[0] for _, text in Tree(page([shown()])).all("figcaption")]
    assert titles == ["Reward", "Drift", "CLIPScore"]
    assert Tree(page([shown(trace=[])])).all("figure") == []


def test_header_names_method_reward_jobs_configuration_and_versions() -> None:
    tree = Tree(page([shown(jobs=45)]))
    facts = next(text for _, text in tree.all("table", "facts"))
    for fact in ("MIRA", "Darkness", "2 of 45", "0123456789ab", "torch 2.13.0"):
        assert fact in facts
    assert tree.all("progress")[0][0] == {"value": "2", "max": "45"}


def test_the_resolved_configuration_is_on_the_page() -> None:
    tree = Tree(page([shown(config={"model": {"lr": 0.01, "<b>": None}})]))
    assert [text for _, text in tree.all("pre")] == ["model:\n  lr: 0.01\n  <b>: null\n"]


def test_two_runs_are_compared_job_by_job() -> None:
    left = shown("left", config={"model": {"lr": 0.01}, "out": "l"})
    right = shown(
        "right", config={"model": {"lr": 0.02}, "out": "r"}, records=[record("bb", reward=9.0), record("ccc")]
    )
    text = page([left, right])
    tree = check_alone(text)
    assert tree.all("h1")[0][1] == "2 runs compared"
    assert [len(values(article(text, k))) for k in range(3)] == [18, 36, 18]
    assert article(text, 0).count("not in this run") == 1
    assert [t for _, t in tree.all("h4")] == ["left", "right"] * 3
    assert {9.0, record("bb")["reward"]} <= set(values(article(text, 1)))
    rows = next(t for _, t in tree.all("table", "differences"))
    assert "model.lr0.010.02" in rows and "out" not in rows
    for colour in ("run-0", "run-1"):
        assert len(tree.all("polygon", colour)) == 3


def test_different_rewards_are_said_to_share_no_scale() -> None:
    note = "their values share no scale"
    assert note in page([shown(), shown(records=[record("a", reward_name="Brightness")])])
    assert note not in page([shown(), shown()])


def test_show_writes_one_file_and_prints_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "x", ["a cat", EVIL.replace("\x00", ""), "a dog"], done=2)
    assert main(["show", str(run.path)]) == 0
    assert capsys.readouterr().out.strip() == str(run.page_path)
    tree = check_alone(run.page_path.read_text(encoding="utf-8"))
    assert len(tree.all("article")) == 2 and "2 of 3" in tree.all("table", "facts")[0][1]
    sources = [attrs["src"] or "" for attrs, _ in tree.all("img")]
    kept = base64.b64encode(run.image_path(run.records()[0]["key"]).read_bytes()).decode()
    assert len(sources) == 6 and sources[1] == f"data:image/png;base64,{kept}"


def test_large_pictures_are_compressed(tmp_path: Path) -> None:
    run = write_run(tmp_path, ["a cat"], done=1, side=600)
    assert main(["show", str(tmp_path), "--out", str(tmp_path / "sub" / "p.html")]) == 0
    tree = check_alone((tmp_path / "sub" / "p.html").read_text(encoding="utf-8"))
    sizes = [(attrs["width"], attrs["height"]) for attrs, _ in tree.all("img")]
    assert sizes == [("512", "512"), ("512", "512"), ("1536", "512")]
    assert all((attrs["src"] or "").startswith("data:image/webp;base64,") for attrs, _ in tree.all("img"))
    assert not run.page_path.exists()


def test_runs_are_compared_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, lr in (("x", 0.01), ("y", 0.5)):
        write_run(tmp_path / name, ["a cat", "a dog"], done=2, lr=lr)
    shutil.rmtree(tmp_path / "y" / "images")
    assert main(["show", str(tmp_path / "x"), str(tmp_path / "y")]) == 0
    target = Path(capsys.readouterr().out.strip())
    assert target == tmp_path / "x" / "compare.html"
    tree = check_alone(target.read_text(encoding="utf-8"))
    assert [t for _, t in tree.all("h4")] == ["x", "y"] * 2
    assert target.read_text(encoding="utf-8").count("its pictures are not in the run folder") == 2


@pytest.mark.parametrize(
    ("folder", "message"),
    [("nowhere", "is no run folder"), ("empty", "is no run folder"), ("begun", "has no finished job")],
)
def test_nothing_to_show_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    RunFolder(tmp_path / "begun").prepare({"model": 1})
    assert main(["show", str(tmp_path / folder)]) == 2
    error = capsys.readouterr().err
    assert message in error and str(tmp_path / folder) in error and len(error.splitlines()) == 1
    assert not list(tmp_path.rglob("*.html"))


def test_a_picture_is_drawn_with_its_size() -> None:
    pictures = {"a": {"base": Picture("data:image/png;base64,AA==", 64, 64), "": Picture("data:,x", 512, 256)}}
    images = [attrs for attrs, _ in Tree(page([shown(pictures=pictures)])).all("img")]
    assert images[0] == {
        "class": "pixels",
        "src": "data:image/png;base64,AA==",
        "width": "64",
        "height": "64",
        "alt": "start",
    }
    assert images[1]["width"] == "512" and "class" not in images[1]
