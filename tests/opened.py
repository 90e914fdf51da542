"""Which files are opened, by whatever library and language: the kernel says it (inotify, Linux)."""

import ctypes
import os
import struct
from pathlib import Path

OPENED, DIRECTORY = 0x20, 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


class Opened:
    """Files below a folder that are opened from now on; symbolic links are those that they lead to."""

    def __init__(self, root: Path) -> None:
        self.queue = LIBC.inotify_init1(os.O_NONBLOCK)
        folders = [folder for folder, _, _ in os.walk(root)]
        self.folders = {LIBC.inotify_add_watch(self.queue, os.fsencode(path), OPENED): path for path in folders}

    def take(self) -> set[Path]:
        """Those since the last time."""
        found: set[Path] = set()
        while True:
            try:
                events = os.read(self.queue, 1 << 20)
            except BlockingIOError:
                return found
            while events:
                watch, mask, _, length = struct.unpack_from("iIII", events)
                name, events = events[16 : 16 + length].rstrip(b"\0").decode(), events[16 + length :]
                if name and not mask & DIRECTORY:
                    found.add(Path(self.folders[watch], name))
