"""A server with the few endpoints of the hub that a download asks: listing, resolve, and a CDN for large files.

As the hub does it: large files (LFS) are named by SHA-256 and come from another address, small ones by git's SHA-1;
a part of a file can be asked for; who may not see a repository is told that there is none.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

Command = Callable[..., tuple[int, str, str]]
"""Runs `mira_pl` with arguments; gives exit code, output and errors."""

COMMIT = "1" * 40
LARGE = (".safetensors", ".pt", ".pth", ".bin", ".model")
TOKEN = "hf_secret"


@dataclass(eq=False)
class Hub(ThreadingHTTPServer):
    """Repositories by id (data sets under "datasets/"), what goes wrong, and what was asked.

    Attributes:
        repositories: their folders.
        gated: repositories whose files need `TOKEN`.
        faults: by path of a file, what happens to its next downloads: "cut" after half, or "flip" one bit.
        announced: sizes that are told of files, where they differ.
        renamed: new names of repositories by old ones, which lead there.
        bare: repositories whose listing names files only, as some mirrors have it.
        asked: (path of a file, value of Range) of every download.
    """

    repositories: dict[str, Path]
    gated: set[str] = field(default_factory=set)
    faults: dict[str, list[str]] = field(default_factory=dict)
    announced: dict[str, int] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    bare: set[str] = field(default_factory=set)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    daemon_threads = True

    def __post_init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        old = next((name for name in self.server.renamed if f"{name}/" in f"{path.removeprefix('api/models/')}/"), None)
        if old is not None:
            self.send(307, b"", {"Location": "/" + path.replace(old, self.server.renamed[old], 1)})
        elif path.startswith("api/"):
            self.send_listing(path.removeprefix("api/").removeprefix("models/"))
        elif path.startswith("cdn/"):
            self.send_file(*self.split(path.removeprefix("cdn/")), body)
        else:
            self.resolve(*self.split(path.replace("/resolve/main/", "//", 1)), body)

    def resolve(self, repository: str, name: str, body: bool) -> None:
        if repository not in self.server.repositories:
            self.refuse(401, "RepoNotFound")
        elif repository in self.server.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse(401, "GatedRepo")
        elif not (self.server.repositories[repository] / name).is_file():
            self.refuse(404, "EntryNotFound")
        elif name.endswith(LARGE):
            self.send_redirect(repository, name)
        else:
            self.send_file(repository, name, body)

    def split(self, path: str) -> tuple[str, str]:
        repository, _, name = path.partition("//")
        return repository, name

    def facts(self, repository: str, name: str) -> tuple[bytes, str, int]:
        """Content, checksum and announced size."""
        content = (self.server.repositories[repository] / name).read_bytes()
        large = name.endswith(LARGE)
        header = b"" if large else f"blob {len(content)}\0".encode()
        digest = (hashlib.sha256 if large else hashlib.sha1)(header + content).hexdigest()
        return content, digest, self.server.announced.get(name, len(content))

    def send_listing(self, repository: str) -> None:
        if repository not in self.server.repositories:
            self.refuse(401, "RepoNotFound")
            return
        folder = self.server.repositories[repository]
        siblings: list[dict[str, Any]] = []
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = file.relative_to(folder).as_posix()
            _, digest, size = self.facts(repository, name)
            sibling: dict[str, Any] = {"rfilename": name, "size": size, "blobId": digest}
            if name.endswith(LARGE):
                sibling |= {"blobId": "2" * 40, "lfs": {"sha256": digest, "size": size, "pointerSize": 130}}
            siblings.append({"rfilename": name} if repository in self.server.bare else sibling)
        name = repository.removeprefix("datasets/")
        listing = {"id": name, "modelId": name, "sha": COMMIT, "private": False, "gated": False, "siblings": siblings}
        self.send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})

    def send_redirect(self, repository: str, name: str) -> None:
        _, digest, size = self.facts(repository, name)
        location = f"{self.server.url}/cdn/{repository}//{name}"
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(size), "X-Repo-Commit": COMMIT}
        self.send(302, b"", linked | {"Location": location})

    def send_file(self, repository: str, name: str, body: bool) -> None:
        content, digest, _ = self.facts(repository, name)
        headers = {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if not body:
            self.send(200, content, headers, body=False)
            return
        wanted = self.headers.get("Range")
        self.server.asked.append((name, wanted))
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        faults = self.server.faults.get(name, [])
        fault = faults.pop(0) if faults else ""
        if fault == "flip":
            content = bytes([content[0] ^ 1]) + content[1:]
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send(206 if start else 200, content[start:], headers, cut=fault == "cut")

    def refuse(self, status: int, code: str) -> None:
        self.send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def send(self, status: int, content: bytes, headers: dict[str, str], body: bool = True, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if body and self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass
