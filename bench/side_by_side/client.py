"""A system at work in its own process, and what the process takes."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from bench.environments import UnavailableError, last_words
from bench.record import KIB, ROOT
from bench.side_by_side.systems import System, environment

PATIENCE_SECONDS = 3600
"""Seconds after which a request counts as never answered."""
KILLED = " (killed, as Linux does when memory runs out)"
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    "TOKENIZERS_PARALLELISM": "true",
}


class Worker:
    """The process of a system; only one works at a time, the others wait for a line of input."""

    def __init__(self, system: System, config: dict[str, Any], threads: int, log: Path) -> None:
        """Starts the process, which imports nothing heavy until it is asked to load.

        Args:
            system: what is to run.
            config: what `System.config` gave.
            threads: for everything that computes or tokenizes.
            log: takes what the process says.
        """
        self.system, self.log = system, log
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads))
        # quoit runs from the sources, others see nothing of them but `bench`.
        paths = {"PYTHONPATH": str(ROOT / "runtime") if system.environment == "quoit" else ""}
        self.started = time.perf_counter()
        command = [str(environment(system.environment)), "-m", "bench.side_by_side.workers", system.adapter]
        with log.open("w") as words:
            self.process = subprocess.Popen(
                [*command, json.dumps(config | {"threads": threads})],
                cwd=ROOT,
                env=os.environ | OFFLINE | counts | paths,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
                text=True,
                start_new_session=True,
            )

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """The answer to one request.

        Raises:
            UnavailableError: the system failed, ended, or did not answer in time; with its own words.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        timer = threading.Timer(PATIENCE_SECONDS, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            status = self.process.wait()
            why = f"ended with status {status}" + (KILLED if status == -signal.SIGKILL else "")
            raise UnavailableError(f"{why}: {last_words(self.log.read_text(errors='replace'))}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise UnavailableError(" ".join(answer["error"].split())[:600])
        return answer

    def memory(self) -> dict[str, int]:
        """Resident bytes now and at most, as Linux counts them: files that are mapped count too."""
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in status if ":" in line)
        kinds = {"resident": "VmRSS", "peak": "VmHWM", "private": "RssAnon"}
        return {kind: int(fields[name].split()[0]) * KIB for kind, name in kinds.items()}

    def cpu_seconds(self) -> float:
        """The processor time it has taken, to see that it rests while others work."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Ends the process and what it started."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def stopping(workers: dict[str, Worker]) -> Iterator[None]:
    """Ends all workers, those that are added later too."""
    try:
        yield
    finally:
        for worker in workers.values():
            worker.stop()
