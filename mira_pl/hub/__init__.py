"""What a part loads, where that lies, how it is fetched and read; every failure as one line."""

from .fetch import fetch, ready
from .need import Found, Need, WebFile

__all__ = ["Found", "Need", "WebFile", "fetch", "ready"]
