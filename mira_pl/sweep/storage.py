"""Where studies are kept: SQLite for one machine, PostgreSQL for many, a journal file where there is only a disk."""

import re
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import URL, Engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
)

RETRIES = 5
"""How often a trial is begun again whose worker was lost; it may be what kills the workers."""
MEETINGS = 5
"""How often workers may meet while they make the tables of a new database."""
RETRY = RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)
JOURNAL = "journal:"
FORMS = "give sqlite:///file, postgresql://user@host/base or journal:file"
UNREACHABLE = (OperationalError, InterfaceError, optuna.exceptions.StorageInternalError)
USER = re.compile(r"(?P<before>\w:/{0,2}[^\s:/@]*):.*@")
QUERY = re.compile(r"(?i)(?P<before>(?:password|passwd|pwd|sslpassword)\s*=\s*)('[^']*'|\"[^\"]*\"|[^&\s'\"]+)")


def redact(text: str) -> str:
    """A text without the passwords of the storage URLs in it."""
    return QUERY.sub(r"\g<before>***", USER.sub(r"\g<before>:***@", text))


def file_storage(path: Path) -> str:
    """The URL of a SQLite file, whatever characters its folders have."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def open_storage(url: str, heartbeat: int, grace: int) -> BaseStorage:
    """The storage of a URL; folders of files are made.

    Args:
        url: `sqlite:///file`, `postgresql://user@host/base` or `journal:file`.
        heartbeat: seconds between two signs of life of a running trial.
        grace: seconds without one after which its worker counts as lost.

    Raises:
        ValueError: the URL is none of these.
        OSError: the storage cannot be reached.
    """
    if url.startswith(JOURNAL):
        path = Path(url.removeprefix(JOURNAL).removeprefix("//"))
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in ("sqlite", "postgresql"):
        raise ValueError(f"a storage is none: {FORMS}")
    options: dict = {"pool_pre_ping": True}  # a connection may have died with the server
    try:
        if scheme == "sqlite":
            Path(make_url(url).database or "").parent.mkdir(parents=True, exist_ok=True)
            options["connect_args"] = {"timeout": 60}
        full = f"postgresql+psycopg://{rest}" if scheme == "postgresql" else url
        storage = _database(
            full.replace("{", "{{").replace("}", "}}"),  # Optuna fills in what stands in braces
            engine_kwargs=options,
            heartbeat_interval=heartbeat,
            grace_period=grace,
            heartbeat_stale_trial_callback=RETRY,
        )
        if scheme == "sqlite":
            _lock_whole(storage.engine)
        return storage
    except UNREACHABLE as error:
        raise OSError(f"cannot reach the storage {redact(url)}: {redact(first_line(error))}") from None
    except ValueError:  # of a port that is no number, and may be a password without its host
        raise ValueError(f"a storage is none: {FORMS}") from None
    except (ArgumentError, NoSuchModuleError, ImportError, ProgrammingError) as error:
        raise ValueError(f"cannot use the storage {redact(url)}: {redact(first_line(error))}") from None


def _database(url: str, **options: Any) -> RDBStorage:
    """Two workers that open a new database at once both make its tables, and Optuna lets the slower one fail."""
    for _ in range(MEETINGS):
        try:
            return RDBStorage(url, **options)
        except (OperationalError, ProgrammingError, IntegrityError) as error:
            if "already exists" not in str(error) and "UNIQUE constraint" not in str(error):
                raise
            time.sleep(0.5)
    return RDBStorage(url, **options)


def _lock_whole(engine: Engine) -> None:
    """Every transaction of SQLite begins with the lock of the file.

    Optuna takes a trial from the queue by SELECT FOR UPDATE, which SQLite has not, and Python's driver begins a
    transaction at its first write: two workers could both read that a trial waits, and both take it. The two listeners
    are those of SQLAlchemy's page on SQLite.
    """
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    engine.dispose()  # connections from before


def first_line(error: BaseException) -> str:
    """What an error says, in one line; SQLAlchemy's go on with the statement and its background."""
    causes = [error.__cause__ or error] if isinstance(error, optuna.exceptions.StorageInternalError) else [error]
    return " ".join(str(causes[0]).split("\n")[0].split())


def unreachable(error: BaseException | None) -> bool:
    """Whether an error, or one that it came of, says that the storage is gone for the moment."""
    while error is not None:
        if isinstance(error, UNREACHABLE):
            return True
        error = error.__cause__ or error.__context__
    return False
