"""The process of a server: started, waited for, watched and ended."""

import os
import resource
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from bench.environments import UnavailableError, last_words
from bench.record import ROOT

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
}
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS = 600.0
END_SECONDS = 60.0
POLL_SECONDS = 0.2


class Server:
    """A server in a process group of its own."""

    def __init__(self, command: list[str], *, port: int, health: str, threads: int, log: Path) -> None:
        """Start it.

        Args:
            command: the command.
            port: where it will listen.
            health: path that answers with 200 when it is ready.
            threads: number of threads of everything that computes.
            log: takes what the process says.
        """
        self.port, self.health, self.log = port, health, log
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads))
        log.parent.mkdir(parents=True, exist_ok=True)
        raise_limit()
        with log.open("w") as words:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | OFFLINE | counts,
                stdout=words,
                stderr=words,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def wait(self) -> float:
        """Wait until it is ready, and return the seconds.

        Raises:
            UnavailableError: it ended, or was not ready in time; with the end of what it said.
        """
        begin = time.monotonic()
        while time.monotonic() - begin < START_SECONDS:
            if self.process.poll() is not None:
                raise UnavailableError(f"the server ended with {self.process.returncode}: {self.words()}")
            if is_ready(self.port, self.health):
                return time.monotonic() - begin
            time.sleep(POLL_SECONDS)
        raise UnavailableError(f"the server was not ready after {START_SECONDS:g} s: {self.words()}")

    def words(self) -> str:
        """The end of what it said."""
        return last_words(self.log.read_text(errors="replace"))

    def resident_bytes(self) -> int:
        """Resident memory of the process and its children."""
        total = 0
        for pid in family(self.process.pid):
            with suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
        return total

    def processor_seconds(self) -> float:
        """Processor time that the process and its children have taken."""
        total = 0
        for pid in family(self.process.pid):
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def terminate(self) -> None:
        """Send the process the signal to end."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """End the process and what it started."""
        with suppress(ProcessLookupError):
            self.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for each in found:
        with suppress(OSError):
            for file in Path(f"/proc/{each}/task").glob("*/children"):
                found += [int(child) for child in file.read_text().split()]
    return found


def is_ready(port: int, path: str) -> bool:
    """Whether a GET of a path is answered with 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
            return connection.recv(64).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def raise_limit() -> None:
    """Let this process and its children have as many connections as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
