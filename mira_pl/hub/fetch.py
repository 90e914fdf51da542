"""From the hub to its cache: exactly the files that are needed, each against the checksum that the hub names."""

import contextlib
import errno
import hashlib
import os
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

from .need import Found, Need, WebFile

PATIENCE = 10  # seconds until a hub that does not answer is given up
Listing = dict[str, Any]
"""Of a repository: name of a file to its `RepoSibling` (size, checksum)."""


def ready(need: Need | WebFile) -> Found:
    """The files of a need on this machine, fetched if they are not there yet.

    Raises:
        OSError: they are not there and cannot be fetched.
        ValueError: they are there and are not what is needed.
    """
    found = need.look()
    return fetch(need) if found.missing else found


def fetch(need: Need | WebFile, listings: dict[tuple[str, str], Listing] | None = None) -> Found:
    """Downloads what is missing and checks all of it; what is local is looked for only.

    The hub's client checks sizes and goes on where a connection broke; a file that a killed process had begun is begun
    anew. Checked here beyond that: SHA-256 of large files (LFS), git's SHA-1 of small ones. What is there already is
    read and checked too, and replaced if it is damaged.

    Args:
        need: what to fetch.
        listings: what repositories hold, as asked so far; filled.

    Raises:
        OSError: in one line, the reason: no network, no such repository or file, gated, no space.
        ValueError: it is not what is needed, or the download does not have its checksum.
    """
    if isinstance(need, WebFile):
        return _fetch_web(need)
    try:
        return _fetch_need(need, {} if listings is None else listings)
    except OSError as error:
        if need.reason:
            raise FileNotFoundError(f"{need.reason}: {error}") from error
        raise


def _fetch_need(need: Need, listings: dict[tuple[str, str], Listing]) -> Found:
    found = need.look()
    if need.local:
        if found.missing:
            raise FileNotFoundError(
                f"the folder {Path(need.source, need.folder)} lacks {', '.join(found.missing)}: "
                "complete it, or give another"
            )
        return found
    key = (need.source, need.kind)
    if key not in listings:
        listings[key] = _listing(need)
    there = listings[key]
    found = need.gather(there.__contains__, lambda name: _download(need, there[name]))
    if found.missing:
        raise FileNotFoundError(f"{need.source} on the hub has no {', no '.join(found.missing)}: take another model")
    return found


def _listing(need: Need) -> Listing:
    with _one_line(need):
        info: Any = HfApi().repo_info(need.source, repo_type=need.kind, files_metadata=True, timeout=PATIENCE)
    return {sibling.rfilename: sibling for sibling in info.siblings}


def _download(need: Need, sibling: Any) -> Path:
    """One file with the right checksum. A first wrong one may be an old one that was damaged on this disk."""
    for again in (False, True):
        if again or need.place(sibling.rfilename) is None:
            _check_space(need, sibling)
        with _one_line(need):
            path = Path(hf_hub_download(need.source, sibling.rfilename, repo_type=need.kind, force_download=again))
        if genuine(path, sibling):
            return path
    path.resolve().unlink()
    path.unlink(missing_ok=True)
    raise ValueError(
        f"{sibling.rfilename} of {need.source} came twice without the checksum that the hub names, and was deleted: "
        "try again later, or over another connection"
    )


def genuine(path: Path, sibling: Any) -> bool:
    """Whether a file has size and checksum of the hub's listing, if it has any: SHA-256 under LFS, else git's SHA-1."""
    size = path.stat().st_size
    if sibling.lfs is None and sibling.blob_id is None:  # some mirrors list names only
        return True
    if sibling.lfs is not None:
        digest, wanted = hashlib.sha256(), sibling.lfs.sha256
    else:
        digest, wanted = hashlib.sha1(f"blob {size}\0".encode()), sibling.blob_id
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return size == sibling.size and digest.hexdigest() == wanted


def _check_space(need: Need, sibling: Any) -> None:
    cache = Path(constants.HF_HUB_CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if (sibling.size or 0) > free:
        raise OSError(
            f"{sibling.rfilename} of {need.source} has {sibling.size / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free "
            f"in {cache}: free some, or set HF_HOME to a folder on another disk"
        )


@contextlib.contextmanager
def _one_line(need: Need) -> Iterator[None]:
    """What the hub's client raises, in many ways, as one line with what to do."""
    page = f"{constants.ENDPOINT}/{'datasets/' if need.kind == 'dataset' else ''}{need.source}"
    try:
        yield
    except GatedRepoError as error:
        raise OSError(f"{need.source} is gated: accept its terms at {page}, then run `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{need.source} is neither a local folder nor a repository at {constants.ENDPOINT} that this account may "
            "see: check the name, or run `hf auth login` where it is private"
        ) from error
    except Exception as error:  # of two HTTP libraries and of the client, by version
        reason = _reason(error)
        raise OSError(
            f"{need.source} is no folder here and cannot be fetched from {constants.ENDPOINT}: {reason}"
        ) from error


def _reason(error: BaseException) -> str:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None:
        chain.append(link)
        link = link.__cause__
    if any(isinstance(link, OfflineModeIsEnabled) for link in chain):
        return "HF_HUB_OFFLINE is set; unset it, or take a folder that is here"
    if any(isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) for link in chain):
        return f"no space left for {constants.HF_HUB_CACHE}; free some, or set HF_HOME to a folder on another disk"
    root = chain[-1]
    return next(iter(str(root).strip().splitlines()), "") or type(root).__name__


def _fetch_web(need: WebFile) -> Found:
    """No checksum is published for it; it is read as text."""
    found = need.look()
    if not found.missing:
        return found
    try:
        with urllib.request.urlopen(need.source, timeout=PATIENCE) as answer:
            content = answer.read()
    except OSError as error:
        raise FileNotFoundError(f"{need.source} cannot be fetched: {error}") from error
    need.path.parent.mkdir(parents=True, exist_ok=True)
    partial = need.path.with_name(f".{need.name}.{os.getpid()}.tmp")
    partial.write_bytes(content)
    partial.replace(need.path)
    return need.look()
