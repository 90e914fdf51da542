"""Prompt sets are the paper's, keys are file names, errors are one line."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mira_pl.fit import PromptData
from mira_pl.hub import Need, WebFile
from mira_pl.judges import parse
from mira_pl.prompt_files import from_json
from mira_pl.prompt_sets import ANIMALS, ONE, SETS, fetched
from mira_pl.prompts import FILES, expand, job_key, make_jobs
from mira_pl.world.names import SIMPLE_ANIMALS

anything = st.text(st.characters(exclude_categories=()))  # control characters, separators, lone surrogates, emoji
seeds = st.integers(-(2**63), 2**64)


def test_the_animals_are_the_45_of_the_world_in_their_order() -> None:
    assert list(SIMPLE_ANIMALS) == ANIMALS
    assert len(set(ANIMALS)) == 45


def test_sets_are_full_prompts_in_the_words_of_the_paper() -> None:
    assert ONE == "generate an image of a {}"
    assert expand("animals", None)[:2] == ["generate an image of a cat", "generate an image of a dog"]
    assert expand("black_animals", None)[0] == "generate an image of a black cat"
    assert expand("white_animals", "a {}, drawn")[-1] == "a white kangaroo, drawn"
    assert all(len(expand(name, None)) == 45 for name in ("animals", "black_animals", "white_animals"))


def test_pair_sets_are_those_of_attend_and_excite() -> None:
    pairs, objects = expand("animal_pairs", None), expand("animals_with_objects", None)
    assert (len(set(pairs)), len(set(objects))) == (66, 144)
    assert pairs[0] == "generate an image of a cat and a dog" and pairs[-1].endswith("a rabbit and a mouse")
    assert sum(" with a " in prompt for prompt in objects) == 36
    for known in ("a cat and a red apple", "a mouse and a blue clock", "a lion with a glasses"):
        assert f"generate an image of {known}" in objects  # "sic" in the original


def test_the_pair_sets_are_drawn_in_the_world() -> None:
    """Every noun and colour of both sets exists there, so the judge can read the prompts."""
    prompts = [*expand("animal_pairs", "{}"), *expand("animals_with_objects", "{}")]
    assert all(len(parse(prompt)) == 2 for prompt in prompts)


def test_articles_are_mended_where_that_is_asked_for() -> None:
    assert "generate an image of a ant" in expand("animals", None)
    assert "generate an image of an ant" in expand("animals", None, "fixed")
    assert expand(["a bird and a orange apple"], None, "fixed") == ["a bird and an orange apple"]
    assert expand(["a cat with a glasses"], None, "fixed") == ["a cat with glasses"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "a cat\r\n\n  a dog \n"),
        ("a.csv", 'number,prompt\n1,a cat\n2,"a dog"\n'),
        ("a.jsonl", '{"prompt": "a cat"}\n\n{"prompt": "a dog", "seed": 1}\n'),
    ],
)
def test_prompts_from_a_file(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, newline="")
    assert expand(str(tmp_path / name), None) == ["a cat", "a dog"]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_only_line_feeds_end_lines(tmp_path: Path, name: str) -> None:
    """Unicode has other separators, which stand inside of prompts."""
    prompts = ["a cat\u2028in a hat", "a dog\x85 and a pig"]
    rows = {
        "a.txt": prompts,
        "a.csv": ["prompt", *prompts],
        "a.jsonl": [json.dumps({"prompt": prompt}, ensure_ascii=False) for prompt in prompts],
    }
    (tmp_path / name).write_text("\n".join(rows[name]), encoding="utf-8")
    assert expand(str(tmp_path / name), None) == prompts


def test_another_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,prompt\na cat,no\na dog,no\n")
    assert expand(str(tmp_path / "a.csv"), None, column="text") == ["a cat", "a dog"]
    assert [job.prompt for job in PromptData(str(tmp_path / "a.csv"), column="text").jobs] == ["a cat", "a dog"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"text;seed\na cat;1\n", r"a\.csv, row 1: no text in column 'prompt' \(columns: text;seed\)"),
        ("a.csv", b"prompt\na cat\n \n", "row 2: no text"),
        ("a.csv", b'prompt\n"a cat\n', r"a\.csv is no table of comma-separated values \(unexpected end of data\)"),
        ("a.csv", b"prompt\n" + b"a" * 200_000, "field larger than field limit"),
        ("a.jsonl", b'{"prompt": "a cat"}\n["a dog"]\n', r"row 2: no text in column 'prompt' \(columns: none\)"),
        ("a.jsonl", b'{"prompt": 5}\n', "row 1: no text"),
        ("a.jsonl", b"a cat\n", "no file of JSON lines"),
        ("a.jsonl", b'{"prompt": "a \\ud800 cat"}\n', "half of a surrogate pair"),
        ("a.txt", b" \n", "the list of prompts is empty"),
        ("a.txt", "a caf\xe9".encode("latin-1"), r"a\.txt is not UTF-8 .* at byte 5\): save it as UTF-8"),
        ("a.txt", "a cat".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_a_file_that_is_none_of_prompts(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        expand(str(tmp_path / name), None)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", ['["a cat"', '{"a": 1}', '["a cat", 3]'])
def test_a_damaged_list_of_prompts(tmp_path: Path, content: str) -> None:
    (tmp_path / "anime.json").write_text(content)
    with pytest.raises(ValueError, match=r"anime\.json is no .*: delete the file and fetch it again"):
        from_json(tmp_path / "anime.json")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match=r"no file of prompts nowhere\.txt"):
        expand("nowhere.txt", None)


@pytest.mark.parametrize(
    "need", [SETS["hpdv2/anime"].need, WebFile("http://127.0.0.1:9/color_val.txt", "none.txt")], ids=["hub", "web"]
)
def test_a_set_that_cannot_be_fetched_says_so(
    need: Need | WebFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nobody listens on that port."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"cannot be fetched.*refused.* may be a file of prompts too") as caught:
        fetched(need)
    assert len(str(caught.value).splitlines()) == 1


def test_fetched_prompts_are_read_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mira_pl").mkdir()
    (tmp_path / "mira_pl" / "compbench_color_val.txt").write_text("a red cat\r\na blue dog\r\n", newline="")
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    assert expand("compbench/color", None) == ["a red cat", "a blue dog"]


def test_lists_stay_as_they_are() -> None:
    prompts = ["a {} cat", "100 % {1}", "двa\ncats"]
    assert expand(prompts, None) == prompts
    assert expand(["cat"], "{} and {}") == ["cat and cat"]


def test_jobs_come_seed_by_seed_without_doubles() -> None:
    jobs = make_jobs(["a", "b", "a"], [3, 1, 3])
    assert [(job.prompt, job.seed) for job in jobs] == [("a", 3), ("b", 3), ("a", 1), ("b", 1)]
    assert len({job.key for job in jobs}) == 4


@settings(deadline=None)
@given(anything, seeds)
@example("../../etc/passwd", 0)
@example('a\\b:c*d?e"f<g>h|i\0j\nk', 0)
@example("CON", 0)
@example("..", -1)
@example("", 0)
@example("x" * 10_240, 0)
@example("\ud800 é ü 猫 \u202e" * 1000, 2**64)
def test_a_key_is_a_safe_file_name(prompt: str, seed: int) -> None:
    key = job_key(prompt, seed)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*-[0-9a-f]{8}-s-?[0-9]+", key)
    assert len(key) <= 100
    assert key == job_key(prompt, seed)


@settings(deadline=None)
@given(st.lists(st.tuples(anything, seeds), unique=True, max_size=20))
@example([("cat", 0), ("Cat", 0), ("cat ", 0), ("cat!", 0), ("cát", 0), ("cat", -1), ("cat", 1), ("猫", 0), ("犬", 0)])
@example([("y" * 10_240, 0), ("y" * 10_241, 0), ("x" + "y" * 10_240, 0)])
def test_keys_tell_prompts_and_seeds_apart(pairs: list[tuple[str, int]]) -> None:
    assert len({job_key(prompt, seed) for prompt, seed in pairs}) == len(pairs)


def test_a_key_can_be_read() -> None:
    assert job_key("Generate an image of a white cat", 7).startswith("generate-an-image-of-a-white-cat-")
    assert job_key("猫", 7).startswith("prompt-")


@settings(deadline=None)
@given(anything.filter(lambda name: name not in SETS and not name.endswith(FILES)))
@example("animal\ns")
@example("a cat")
def test_an_unknown_set_is_one_line_that_names_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match="there are animals, black_animals, white_animals") as caught:
        expand(name, None)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("prompts", "template", "message"),
    [
        ([], None, "the list of prompts is empty"),
        (["a", " \n"], None, "a prompt is empty"),
        (["a"], "", "has no {} to put the prompt in"),
        (["a"], "of\nnothing", "has no {} to put the prompt in"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(prompts: list[str], template: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        expand(prompts, template)
    assert len(str(caught.value).splitlines()) == 1


def test_seeds_are_needed() -> None:
    with pytest.raises(ValueError, match="the list of seeds is empty"):
        make_jobs(["a"], [])
