"""Load, warm up, serve, and end: the life of a server process."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from quoit.aio import AsyncEmbedder, AsyncReranker
from quoit.embedder import Embedder
from quoit.engine.options import Options
from quoit.engine.scheduler import Scheduler
from quoit.errors import ArtifactError, QuoitError, brief
from quoit.hub.names import hub_name
from quoit.hub.opening import open_model
from quoit.reranker import Reranker
from quoit.server import log
from quoit.server.app import State, make_app
from quoit.server.guard import MAX_HEADER_BYTES
from quoit.server.listening import BACKLOG, bind, make_protocol
from quoit.server.metrics import Metrics
from quoit.server.service import Models, Service
from quoit.server.settings import Settings

NOT_LOADABLE = 3
"""Exit code of a server whose model cannot be loaded."""
KEEP_ALIVE_SECONDS = 75
"""Seconds that an idle connection stays open: longer than load balancers keep theirs (AWS: 60 s)."""
LAST_BATCH_SECONDS = 10.0
"""Seconds that the last batch may take after `max_wait` when the server ends."""
COMPUTE_NICE, LOWEST_NICE = 10, 19
"""What is added to the niceness of threads that compute, and its greatest value."""
SWITCH_SECONDS = 0.0005
"""Seconds after which a thread gives Python's lock to the loop (5 ms by default)."""
WARM_UP = "a text that warms the model up"

logger = logging.getLogger("quoit.server")


@dataclass(frozen=True)
class Served:
    """What a server serves.

    Attributes:
        embedder: folder or hub id of the embedding artifact, or of a reranker to serve alone; None for none.
        reranker: folder or hub id of the rerank artifact; None for none.
        options: the options that both run with.
        names: names that they are served under; by default those of the folders.
    """

    embedder: str | None
    reranker: str | None
    options: Options = field(default_factory=Options)
    names: tuple[str | None, str | None] = (None, None)


class Server(uvicorn.Server):
    """A uvicorn server whose signals are answered here: it drains before it ends."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `run`."""
        yield


def serve(served: Served, settings: Settings, announce: Callable[[str], None]) -> int:
    """Serve until a signal ends the process, and return the exit code.

    Args:
        served: what to serve.
        settings: how.
        announce: function that prints a line for the user.

    Raises:
        InputError: the address cannot be used.
        QuoitError: the model cannot be loaded.
    """
    log.set_up(settings.log_format)
    if settings.log_format == "json":
        announce = logger.info
    return asyncio.run(_Life(served, settings, announce).run())


class _Life:
    """One run of a server."""

    def __init__(self, served: Served, settings: Settings, announce: Callable[[str], None]) -> None:
        self.served, self.settings, self.announce = served, settings, announce
        self.state, self.metrics = State(), Metrics()
        self.error: QuoitError | None = None
        self.ending: asyncio.Event = asyncio.Event()
        self.models: Models | None = None
        self.scheduler: Scheduler | None = None
        self.signals = 0
        self.delay = settings.drain_delay
        self.began = time.monotonic()

    async def run(self) -> int:
        """Run the server's life."""
        loop = asyncio.get_running_loop()
        sys.setswitchinterval(SWITCH_SECONDS)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signal, number)
        sock, self.settings = bind(self.settings)
        server = Server(configure(make_app(self.state, self.settings, self.metrics), self.settings))
        serving = asyncio.ensure_future(server.serve(sockets=[sock]))
        self.announce(f"listening on {self.settings.address}, loading")
        loading = threading.Thread(target=self._load, args=(loop,), name="quoit-loading", daemon=True)
        loading.start()
        alive = asyncio.ensure_future(stay_alive())
        await self.ending.wait()
        await self._drain(server)
        await serving
        await self._close()
        alive.cancel()
        if self.error is not None:
            raise self.error
        self.announce(self._summary())
        return 0

    def _signal(self, number: int) -> None:
        """Begin to end at the first signal, and end at once at the second. No balancer sends Ctrl-C: nobody waits."""
        self.signals += 1
        if self.signals > 1:
            self.announce("ended at once by the second signal")
            sys.stderr.flush()
            os._exit(128 + number)
        if number == signal.SIGINT:
            self.delay = 0
        self.state.draining = True
        self.metrics.ready(False)
        notify("STOPPING=1")
        self.ending.set()

    async def _drain(self, server: Server) -> None:
        """Say that the server is ending, let balancers notice, and stop listening; what was admitted is finished."""
        self.state.draining = True
        if self.state.service is not None and self.delay:
            self.announce(f"ending: not ready any more; new requests are answered for {self.delay:g} s")
            await asyncio.sleep(self.delay)
        self.state.refusing = True
        server.should_exit = True

    def _summary(self) -> str:
        """Return what the server did, in words."""
        done, seconds = self.metrics.totals(), time.monotonic() - self.began
        words = f"ended after {seconds:,.1f} s: {done.requests:,} requests, {done.texts:,} texts"
        if not done.seconds:
            return words
        return (
            f"{words}, {done.given_tokens:,} tokens, {done.computed_tokens:,} of them computed "
            f"({done.given_tokens / done.seconds:,.0f} tokens/s while batches ran)"
        )

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        """Load the models and warm them up; a thread of its own does, so that the loop answers meanwhile."""
        start = time.monotonic()
        go_after_the_loop()
        try:
            self.scheduler = Scheduler(
                bulk_share=self.settings.bulk_share,
                max_queued_tokens=self.settings.max_queue_tokens,
                on_batch=self.metrics.batch,
            )
            models = load_models(self.served, self.scheduler)
            described = warm_up(models, self.metrics)
        except Exception as error:  # whatever it is, a server that stays in "loading" is worse
            self.error = error if isinstance(error, QuoitError) else not_loadable(error)
            loop.call_soon_threadsafe(self.ending.set)
            return
        self.models = models
        caches = [one.scheduled.pipeline.prefix_cache for one in (models.embedder, models.reranker) if one is not None]
        self.metrics.watch(self.scheduler, caches)
        seconds = time.monotonic() - start
        loop.call_soon_threadsafe(self._ready, Service(models, self.settings, self.metrics), described, seconds)

    def _ready(self, service: Service, described: str, seconds: float) -> None:
        if self.state.draining:
            return
        self.state.service = service
        self.metrics.ready(True)
        notify("READY=1")
        self.announce(f"ready after {seconds:.1f} s: {described}")

    async def _close(self) -> None:
        if self.scheduler is not None:
            await asyncio.to_thread(self.scheduler.close)
        if self.models is not None:
            for model in (self.models.embedder, self.models.reranker):
                if model is not None:
                    await model.aclose()
        if self.settings.uds is not None and not self.settings.passed:
            Path(self.settings.uds).unlink(missing_ok=True)


def configure(app: Any, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn runs an application."""
    return uvicorn.Config(
        app,
        http=make_protocol(settings),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(settings.max_wait + LAST_BATCH_SECONDS),
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )


def not_loadable(error: Exception) -> ArtifactError:
    """Return the error of a model that fails to load for a reason that was not foreseen; the log has the details."""
    logger.error("the model cannot be loaded", exc_info=error)
    return ArtifactError(f"the model cannot be loaded ({type(error).__name__}: {brief(error)}); try `quoit doctor`")


def load_models(served: Served, scheduler: Scheduler) -> Models:
    """Load what is served.

    Raises:
        QuoitError: a model cannot be loaded.
    """
    options = served.options
    places = (served.embedder, served.reranker)
    artifacts = [None if each is None else open_model(each, options.precision, options.provider) for each in places]
    names = [given or named(place) for given, place in zip(served.names, places, strict=True)]
    first = artifacts[0]
    if first is not None and artifacts[1] is None and first.manifest.task == "rerank":  # a reranker alone
        artifacts, names = [None, first], ["", served.names[1] or names[0]]
    embedder = reranker = None
    if artifacts[0] is not None:
        embedder = AsyncEmbedder(Embedder(artifacts[0], **options.arguments()), scheduler=scheduler)
    if artifacts[1] is not None:
        reranker = AsyncReranker(Reranker(artifacts[1], **options.arguments()), scheduler=scheduler)
    return Models(embedder, reranker, *names)


def named(place: str | None) -> str:
    """Return the name that a model is served under by default: that of its folder, or its hub id without revision."""
    if place is None:
        return ""
    name = hub_name(place)
    return Path(place).resolve().name if name is None else name.repository


def warm_up(models: Models, metrics: Metrics) -> str:
    """Run a query and a batch on each model, and return what is served, in words."""
    from quoit import __version__

    words = []
    if models.embedder is not None:
        for _ in range(2):  # the second one keeps the keys and values of the query's prompt
            models.embedder.embedder.encode_query(WARM_UP)
        models.embedder.embedder.encode_document([f"{number} {WARM_UP}" for number in range(16)])
    if models.reranker is not None:
        for _ in range(2):
            models.reranker.reranker.rank(WARM_UP, [f"{number} {WARM_UP}" for number in range(4)])
    for name, model in ((models.embedder_name, models.embedder), (models.reranker_name, models.reranker)):
        if model is not None:
            choice = model.scheduled.pipeline.session.choice
            metrics.built(__version__, name, choice.precision, choice.provider)
            words.append(f"{name} ({choice.precision} on {choice.provider})")
    return " and ".join(words)


def go_after_the_loop() -> None:
    """Let this thread, and those that it starts, compute with what the event loop leaves of the cores.

    Under twice the load that the small model bears, health was then answered within 0.2 s and not 1.7 s.
    """
    if sys.platform == "linux":  # elsewhere a priority is that of the whole process
        now = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(now + COMPUTE_NICE, LOWEST_NICE))


def watchdog_seconds() -> float | None:
    """Return how often systemd wants to be told that the process is alive (sd_watchdog_enabled(3)); None for never."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdecimal() or not int(microseconds) or pid != str(os.getpid()):
        return None
    return int(microseconds) / 1e6


async def stay_alive() -> None:
    """Tell systemd's watchdog, twice in each of its intervals, that the event loop runs."""
    seconds = watchdog_seconds()
    while seconds is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(seconds / 2)


def notify(message: str) -> None:
    """Tell systemd about the server's state, if it asked to be told (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.sendto(message.encode(), address)
