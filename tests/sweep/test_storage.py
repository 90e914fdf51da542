"""Storage URLs: which there are, and that their passwords are never said."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mira_pl.sweep.storage import file_storage, open_storage, redact

WORKERS, TURNS = 4, 5
LETTERS = st.text(st.characters(codec="ascii", categories=["L", "N"]) | st.sampled_from("!$%&*+-=@:/#?"), min_size=1)


@given(LETTERS, st.sampled_from(["postgresql", "postgresql+psycopg", "mysql+pymysql"]))
def test_a_password_is_never_said(password, scheme):
    said = redact(f"cannot reach {scheme}://user:{password}X9@host:5432/base?sslmode=require: refused")
    assert f"{password}X9" not in said and "user" in said and "host:5432/base" in said and said.endswith("refused")


def test_a_password_among_the_options():
    assert redact("postgresql://host/base?user=u&password=s3cret&sslmode=a") == (
        "postgresql://host/base?user=u&password=***&sslmode=a"
    )


@pytest.mark.parametrize(
    "text",
    [
        "unrecognized arguments: --stroage postgresql://me:s3cret@db/x",
        "no postgresql:me:s3cret@db/x",
        "no postgresql:/me:s3cret@db/x",
        "no postgresql://me:my s3cret@db/x",
        "host=db password='my s3cret' user=me",
    ],
)
def test_a_password_in_an_odd_place(text):
    assert "s3cret" not in redact(text) and "***" in redact(text)


@pytest.mark.parametrize("text", ["sqlite:////tmp/a@b.db", "postgresql://user@host/base", "at 12:30 a@b wrote"])
def test_what_has_none_is_left_alone(text):
    assert redact(text) == text


@pytest.mark.parametrize(
    "url", ["study.db", "mysql://u:s3cret@h/b", "redis://h", "postgres://u:s3cret@h/b", "postgresql://u:s3cret/b"]
)
def test_what_is_no_storage(url):
    with pytest.raises(ValueError, match="give sqlite:///file, postgresql://user@host/base or journal:file") as error:
        open_storage(url, 1, 4)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("name", ["a b", "{x}", "a%20b", "what?", "#1", "Ω"])
def test_a_folder_of_any_name_holds_a_study(tmp_path, name):
    path = tmp_path / name / "study.db"
    open_storage(file_storage(path), 1, 4)
    assert path.is_file()


def test_braces_of_a_url_are_nothing_to_fill_in(tmp_path):
    open_storage(f"sqlite:///{tmp_path}/{{x}}/study.db", 1, 4)
    assert (tmp_path / "{x}" / "study.db").is_file()


def test_a_server_that_is_not_there():
    with pytest.raises(OSError, match=r"cannot reach the storage postgresql://u:\*\*\*@127.0.0.1:1/b: ") as error:
        open_storage("postgresql://u:s3cret@127.0.0.1:1/b", 1, 4)
    assert "s3cret" not in str(error.value) and "\n" not in str(error.value)


def opens(url: str, together) -> None:
    together.wait()
    open_storage(url, 1, 4)


@pytest.mark.slow
def test_workers_make_a_new_database_at_once(tmp_path):
    fork = multiprocessing.get_context("fork")
    for attempt in range(3):
        together = fork.Barrier(6)
        workers = [fork.Process(target=opens, args=(f"sqlite:///{tmp_path}/{attempt}.db", together)) for _ in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert [worker.exitcode for worker in workers] == [0] * 6


def take(url: str, ready: Barrier) -> list[int]:
    """Trials that one worker takes from the queue, each at the same moment as the others."""
    study = optuna.load_study(study_name="queue", storage=open_storage(url, 1, 4))
    taken = []
    for _ in range(TURNS):
        ready.wait(60)
        taken.append(study.ask().number)
    return taken


def test_workers_never_take_the_same_trial(tmp_path):
    """SQLite has no locks of rows: two that read at once that a trial waits would both begin it."""
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="queue", storage=open_storage(url, 1, 4))
    for _ in range(WORKERS * TURNS):
        study.enqueue_trial({})
    with ThreadPoolExecutor(WORKERS) as pool:
        ready = Barrier(WORKERS)
        workers = [pool.submit(take, url, ready) for _ in range(WORKERS)]
        taken = sorted(number for worker in workers for number in worker.result())
    assert taken == list(range(WORKERS * TURNS))
