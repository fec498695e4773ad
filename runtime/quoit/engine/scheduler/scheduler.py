"""Schedule rows of many callers on loaded models: queries soon, bulk work with a share that is kept.

A row is scheduled, and not a request: rows of one request may be answered in several batches. Since a text does not see
its batch, the order of work never changes an answer.

Two threads take rows, one for each lane, and run them in the same session. onnxruntime lets the runs share its threads.
No run waits for a batch to fill up: whatever is queued when a lane is free forms the next batch, so batches grow with
the load. While queries are queued or running, the bulk lane begins no new batch, unless it has had less than its share.

A row that is already queued or running for somebody else is not computed again. A row that nobody waits for any more is
dropped when its batch is formed; if all rows of a running bulk batch are dropped, the run is ended.
"""

import atexit
import math
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Condition, RLock, Thread
from typing import Literal

import numpy as np

from quoit.engine.limits import with_budget
from quoit.engine.pipeline import Pipeline
from quoit.engine.planner import Batch, Limits, Row
from quoit.engine.prefix_cache import CachedPrefix
from quoit.engine.scheduler.lanes import BulkQueue, QueryQueue, Queue
from quoit.engine.scheduler.requests import Cell, Group, Key, Lane, Request, Terms
from quoit.errors import ComputeError, DeadlineError, InputError, OverloadedError, QuoitError, brief
from quoit.ort.cancellation import Cancellation, RunCancelledError
from quoit.ort.graph_inputs import Inputs

LANES: tuple[Lane, ...] = ("query", "bulk")
BULK_SHARE = 0.2
"""Share of the computing time that the bulk lane keeps while queries never stop."""
SHARE_SECONDS = 10.0
"""Seconds over which the share is counted, and after which queries count as absent."""
STARVED_SECONDS = 5.0
"""Seconds after which the bulk lane begins a batch whatever the query lane has."""
BULK_SECONDS = 0.25
"""Predicted seconds of a bulk batch while queries come: one that arrives shares the cores for so long at most."""
MIN_BATCH_TOKENS = 64
"""Minimum token budget of such a batch; see `quoit.engine.pipeline.MIN_SHARED_TOKENS`."""
WINDOW_BATCHES = 2
"""Number of batches whose rows are planned together: rows of one length and rows that begin alike meet in it. A request
is answered when all its rows are, so a large window makes requests wait for each other."""
DEADLINE_MARGIN = 1.1
"""What the predicted time to the end is multiplied with before it is compared with a deadline."""
MAX_QUEUED_TOKENS = 2_000_000
"""Default maximum number of tokens that wait."""
RATE_WEIGHT = 0.2
"""Weight of the latest batch in the average of tokens/s."""
SHORT_RETRY_SECONDS = 0.2
"""Minimum of what a refused caller is told to wait."""

Reason = Literal["gone", "deadline"]
Planned = tuple[Batch, Inputs]


@dataclass(frozen=True)
class BatchRun:
    """A batch that ran: the lane, the tokens of its rows, those that were computed, and the seconds that it took."""

    lane: Lane
    tokens: int
    computed_tokens: int
    seconds: float


@dataclass(frozen=True)
class Counts:
    """What waits, and what happened so far.

    Attributes:
        queued_rows: distinct rows that wait, by lane.
        queued_tokens: their tokens, by lane.
        dropped: rows that were not computed since nobody waited any more (`gone`), or too late (`deadline`).
        shared_rows: rows that were answered by another caller's computation.
    """

    queued_rows: dict[Lane, int]
    queued_tokens: dict[Lane, int]
    dropped: dict[Reason, int]
    shared_rows: int


class Scheduler:
    """Runs rows of token ids for many callers. All methods may be called from any thread.

        scheduler = Scheduler()
        request = scheduler.submit(pipeline, rows, Terms(lane="query"))
        states = request.future.result()

    `close` ends its threads; the interpreter's exit does so too.
    """

    def __init__(
        self,
        *,
        bulk_share: float = BULK_SHARE,
        max_queued_tokens: int = MAX_QUEUED_TOKENS,
        on_batch: Callable[[BatchRun], object] | None = None,
    ) -> None:
        """Start the threads.

        Args:
            bulk_share: share of the computing time that bulk work keeps while queries never stop, 0 to 1.
            max_queued_tokens: maximum tokens that wait; more are refused, except by an empty queue.
            on_batch: function that is called after each batch that ran to its end.

        Raises:
            InputError: an argument is out of bounds.
        """
        if not 0 <= bulk_share <= 1:
            raise InputError(f"bulk_share {bulk_share!r} is no share; choose a number from 0 to 1")
        self._bulk_share = bulk_share
        self._max_queued_tokens = max_queued_tokens
        self._on_batch = on_batch
        self._lock = RLock()
        self._woken: dict[Lane, Condition] = {lane: Condition(self._lock) for lane in LANES}
        self._empty = Condition(self._lock)
        self._query, self._bulk = QueryQueue(), BulkQueue()
        self._queues: dict[Lane, Queue] = {"query": self._query, "bulk": self._bulk}
        self._cells: dict[Key, Cell] = {}
        self._rows: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._tokens: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._taken: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._rates: dict[tuple[int, Lane], float] = {}
        self._dropped: dict[Reason, int] = {"gone": 0, "deadline": 0}
        self._shared_rows = 0
        self._running: dict[Lane, tuple[list[Cell], Cancellation] | None] = dict.fromkeys(LANES)
        self._busy: deque[tuple[float, Lane, float]] = deque()
        self._last_query = self._last_bulk = -math.inf
        self._accepting = self._alive = True
        self._threads = [Thread(target=self._work, args=(lane,), name=f"quoit-{lane}", daemon=True) for lane in LANES]
        for thread in self._threads:
            thread.start()
        this = weakref.ref(self)
        atexit.register(_close_at_exit, this)

    # ------------------------------------------------------------------------------------------------ for callers

    def submit(self, pipeline: Pipeline, rows: Sequence[Row], terms: Terms, prompt: str = "") -> Request:
        """Queue rows of token ids, all or none.

        Args:
            pipeline: the model that answers them.
            rows: rows of token ids; no row is empty.
            terms: how they wait.
            prompt: text of the prompt that all rows begin with, whose keys and values may be cached.

        Returns:
            The request; its future gets the answers.

        Raises:
            OverloadedError: the answers would come after the deadline, or too many tokens are queued.
            InputError: the scheduler or the model was closed.
        """
        pipeline.session.check()
        request = Request(len(rows), pipeline.session.answer_shape, terms)
        if not rows:
            return request
        group = Group(pipeline, prompt, terms.sharing, id(pipeline))
        keys = [(group, np.asarray(row, np.uint32).tobytes()) for row in rows]
        with self._lock:
            self._admit(sum(map(len, rows)), terms, pipeline)
            if terms.lane == "query":
                self._last_query = time.monotonic()
            for position, (key, row) in enumerate(zip(keys, rows, strict=True)):
                self._add(key, row, request, position)
            self._woken[terms.lane].notify()
        request.future.add_done_callback(lambda _: self._released())
        return request

    def check(self, pipeline: Pipeline, tokens: int, terms: Terms) -> None:
        """Refuse rows of about so many tokens as `submit` would; callers ask before they tokenize."""
        with self._lock:
            self._admit(tokens, terms, pipeline)

    def predict_seconds(self, pipeline: Pipeline, lane: Lane) -> float:
        """Return the seconds until rows that are submitted now begin to run; 0 before the model's rate is known."""
        with self._lock:
            return self._predict(pipeline, Terms(lane))

    def counts(self) -> Counts:
        """Return what waits and what happened."""
        with self._lock:
            return Counts(dict(self._rows), dict(self._tokens), dict(self._dropped), self._shared_rows)

    def drain(self, seconds: float) -> bool:
        """Refuse new rows, and wait until those that are queued have been answered.

        Returns:
            True if all were answered within the time.
        """
        with self._lock:
            self._accepting = False
            return self._empty.wait_for(lambda: not self._cells, seconds)

    def close(self) -> None:
        """End the threads; rows that are still queued or running get an error."""
        with self._lock:
            self._accepting = self._alive = False
            cells = list(self._cells.values())
            self._cells.clear()
            for running in self._running.values():
                if running is not None:
                    running[1].cancel()
            for woken in self._woken.values():
                woken.notify()
        for cell in cells:
            _fail(cell, InputError("the scheduler was closed before this text had its turn"))
        for thread in self._threads:
            thread.join()

    # -------------------------------------------------------------------------------------------------- admission

    def _admit(self, tokens: int, terms: Terms, pipeline: Pipeline) -> None:
        """Refuse rows that cannot be answered in time. The caller holds the lock."""
        if not self._accepting:
            raise InputError("the scheduler was closed; make another one")
        queued = sum(self._tokens.values())
        begins = self._predict(pipeline, terms)
        if queued and queued + tokens > self._max_queued_tokens:
            raise OverloadedError(
                f"{queued:,} tokens are queued, and {tokens:,} more would be above {self._max_queued_tokens:,}; try "
                "again later",
                max(begins, SHORT_RETRY_SECONDS),
            )
        ahead, left = queued + sum(self._taken.values()), terms.deadline - time.monotonic()
        patience = max(min(left, terms.patience), 0.0)
        if begins > patience:
            raise OverloadedError(
                f"{ahead:,} tokens are queued, which take {begins:.1f} s, and this request waits for "
                f"{patience:.1f} s at most; try again later",
                max(begins - patience, SHORT_RETRY_SECONDS),
            )
        rate = self._rates.get((id(pipeline), terms.lane))
        ends = (begins + (tokens / rate if rate else 0.0)) * DEADLINE_MARGIN
        if ahead and ends > left:
            raise OverloadedError(
                f"{ahead:,} tokens are queued, which take {begins:.1f} s, and this request's {tokens:,} would be done "
                f"after {ends:.1f} s, not within its {max(left, 0.0):.1f} s; try again later, or wait longer",
                max(ends - left, SHORT_RETRY_SECONDS),
            )

    def _predict(self, pipeline: Pipeline, terms: Terms) -> float:
        """Return the seconds that rows take which go first.

        They are those that are being computed, queries of an earlier deadline, and for bulk rows all that are queued.
        """
        if terms.lane == "query":
            before = self._query.tokens_before(terms.priority, terms.deadline)
            ahead: dict[Lane, int] = {"query": self._taken["query"] + before}
        else:
            ahead = {lane: self._taken[lane] + self._tokens[lane] for lane in LANES}
        rates = {lane: self._rates.get((id(pipeline), lane)) for lane in ahead}
        return sum(ahead[lane] / rate for lane, rate in rates.items() if rate is not None)

    def _add(self, key: Key, row: Row, request: Request, position: int) -> None:
        """Queue a row, or let it wait for the same row of another request."""
        terms = request.terms
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = Cell(key, row, terms.lane)
            self._count(cell, 1)
            self._queues[terms.lane].push(cell, terms)
        else:
            self._shared_rows += 1
            if terms.lane == "query" and cell.lane == "bulk" and not cell.running:
                self._count(cell, -1)
                cell.lane = "query"
                self._count(cell, 1)
                self._query.push(cell, terms)
        cell.waiters.append((request, position))

    def _count(self, cell: Cell, sign: int) -> None:
        self._rows[cell.lane] += sign
        self._tokens[cell.lane] += sign * cell.tokens

    def _released(self) -> None:
        """End a running bulk batch that nobody waits for any more."""
        with self._lock:
            running = self._running["bulk"]
            if running is not None and not any(cell.wanted for cell in running[0]):
                running[1].cancel()

    # -------------------------------------------------------------------------------------------------- dispatching

    def _work(self, lane: Lane) -> None:
        """Run batches of a lane until the scheduler is closed."""
        while (cells := self._take(lane)) is not None:
            try:
                self._compute(lane, cells)
            except Exception as error:  # every row that was taken is answered or fails, whatever happened
                self._settle(cells, error)

    def _take(self, lane: Lane) -> list[Cell] | None:
        """Wait for rows of a lane, and take the next ones; None when the scheduler is closed."""
        with self._lock:
            while self._alive:
                cells = self._queues[lane].take(partial(self._window, lane)) if self._may_begin(lane) else []
                for cell in cells:
                    cell.running = True
                    self._count(cell, -1)
                    self._taken[cell.lane] += cell.tokens
                wanted = self._still_wanted(cells)
                if wanted:
                    return wanted
                if not cells:
                    self._woken[lane].wait(self._pause(lane))
            return None

    def _window(self, lane: Lane, group: Group) -> int:
        """Return about how many tokens to take from a lane: what forms a batch of queries, or several of bulk."""
        tokens = group.pipeline.limits.stream_tokens
        return tokens if lane == "query" else tokens * WINDOW_BATCHES

    def _pause(self, lane: Lane) -> float | None:
        """Return how long a lane sleeps at most: bulk rows that wait for queries look again before they starve."""
        return SHARE_SECONDS / 100 if lane == "bulk" and self._rows["bulk"] else None

    def _may_begin(self, lane: Lane) -> bool:
        """Return whether a lane may begin a batch now."""
        if lane == "query" or not (self._rows["query"] or self._running["query"]):
            return True
        now = time.monotonic()
        while self._busy and self._busy[0][0] < now - SHARE_SECONDS:
            self._busy.popleft()
        total = sum(seconds for _, _, seconds in self._busy)
        bulk = sum(seconds for _, which, seconds in self._busy if which == "bulk")
        return bulk < self._bulk_share * total or now - self._last_bulk > STARVED_SECONDS

    def _still_wanted(self, cells: list[Cell]) -> list[Cell]:
        """Return the rows that somebody still waits for, and forget the others. The caller holds the lock."""
        now = time.monotonic()
        wanted = []
        for cell in cells:
            late = [request for request, _ in cell.waiters if request.terms.deadline < now]
            for request in late:
                request.fail(_late(request))
            if cell.wanted:
                wanted.append(cell)
            else:
                self._dropped["deadline" if late else "gone"] += 1
                self._forget(cell)
        return wanted

    def _forget(self, cell: Cell) -> None:
        """Forget a row that is answered, failed or not wanted any more."""
        if self._cells.pop(cell.key, None) is not None and cell.running:
            self._taken[cell.lane] -= cell.tokens
        if not self._cells:
            self._empty.notify_all()

    # ---------------------------------------------------------------------------------------------------- computing

    def _compute(self, lane: Lane, cells: list[Cell]) -> None:
        """Run rows of one group batch by batch; bulk rows that others should precede go back to the queue."""
        group = cells[0].group
        prefix = group.pipeline.prefix_cache.get(group.prompt)
        owners = self._owners()
        planned = deque(self._plan(lane, cells, prefix))
        while planned:
            part, (batch, inputs) = planned.popleft()
            if lane == "bulk" and not self._go_on(owners):
                self._put_back([*part, *(cell for rest, _ in planned for cell in rest)])
                return
            with self._lock:
                wanted = self._still_wanted(part)
            if len(wanted) == len(part):
                self._run(lane, part, batch, inputs, prefix)
            elif wanted:
                planned.extendleft(reversed(self._plan(lane, wanted, prefix)))

    def _plan(self, lane: Lane, cells: list[Cell], prefix: CachedPrefix | None) -> list[tuple[list[Cell], Planned]]:
        """Return batches of rows, each with its rows and inputs."""
        pipeline = cells[0].group.pipeline
        batches = pipeline.plan([cell.ids for cell in cells], self._limits(lane, pipeline), prefix)
        return [([cells[text] for text in batch.texts], (batch, inputs)) for batch, inputs in batches]

    def _limits(self, lane: Lane, pipeline: Pipeline) -> Limits:
        """Return the limits of a batch; bulk batches are short while queries come."""
        rate = self._rates.get((id(pipeline), lane))
        if lane == "query" or rate is None or time.monotonic() - self._last_query > SHARE_SECONDS:
            return pipeline.limits
        tokens = max(int(rate * BULK_SECONDS), MIN_BATCH_TOKENS)
        return with_budget(pipeline.limits, min(tokens, pipeline.limits.stream_tokens))

    def _owners(self) -> frozenset[str]:
        with self._lock:
            return self._bulk.owners

    def _go_on(self, owners: frozenset[str]) -> bool:
        """Return whether the bulk lane may go on with what it planned: no query is ahead, no other owner has come."""
        with self._lock:
            return self._may_begin("bulk") and self._bulk.owners <= owners and self._alive

    def _put_back(self, cells: list[Cell]) -> None:
        """Queue rows again that were taken and have not run."""
        with self._lock:
            for cell in cells:
                self._taken[cell.lane] -= cell.tokens
                cell.running, cell.lane = False, "bulk"
                self._count(cell, 1)
                self._bulk.put_back(cell, cell.waiters[0][0].terms)

    def _run(self, lane: Lane, cells: list[Cell], batch: Batch, inputs: Inputs, prefix: CachedPrefix | None) -> None:
        """Run a batch and deliver its answers. If it fails, its halves run alone, down to the row that is at fault."""
        pipeline = cells[0].group.pipeline
        cancellation = Cancellation()
        start = time.monotonic()
        with self._lock:
            self._running[lane] = (cells, cancellation)
            for cell in cells:
                for request, _ in cell.waiters:
                    request.started = request.started or start
        try:
            answers = pipeline.session.run(inputs, cancellation)
        except RunCancelledError:
            with self._lock:
                again = self._still_wanted(cells) if self._alive else []
            self._run_all(lane, again, prefix)  # somebody came for them since
            return
        except Exception as error:
            if len(cells) == 1 or isinstance(error, QuoitError):
                self._settle(cells, error)
                return
            middle = len(cells) // 2
            self._run_all(lane, cells[:middle], prefix)
            self._run_all(lane, cells[middle:], prefix)
            return
        finally:
            seconds = time.monotonic() - start
            self._ended(lane, cells, seconds)
        for cell, row in zip(cells, batch.output_row, strict=True):
            for request, position in self._finished(cell):
                if not request.gone:
                    request.answer(position, answers[row])
        if self._on_batch is not None:
            tokens = sum(cell.tokens for cell in cells)
            self._on_batch(BatchRun(lane, tokens, batch.stream_tokens, seconds))

    def _run_all(self, lane: Lane, cells: list[Cell], prefix: CachedPrefix | None) -> None:
        """Run rows in as many batches as they need."""
        for part, (batch, inputs) in self._plan(lane, cells, prefix) if cells else ():
            self._run(lane, part, batch, inputs, prefix)

    def _ended(self, lane: Lane, cells: list[Cell], seconds: float) -> None:
        """Count a batch that ran."""
        pipeline, tokens = cells[0].group.pipeline, sum(cell.tokens for cell in cells)
        other: Lane = "bulk" if lane == "query" else "query"
        with self._lock:
            now = time.monotonic()
            shared = self._running[other] is not None
            self._running[lane] = None
            self._busy.append((now, lane, seconds / 2 if shared else seconds))
            if lane == "bulk":
                self._last_bulk = now
            else:
                self._last_query = now
            rate, known = tokens / max(seconds, 1e-6), self._rates.get((id(pipeline), lane))
            self._rates[id(pipeline), lane] = rate if known is None else known + RATE_WEIGHT * (rate - known)
            for request in {id(request): request for cell in cells for request, _ in cell.waiters}.values():
                request.compute_seconds += seconds
            if lane == "query":
                self._woken["bulk"].notify()

    def _finished(self, cell: Cell) -> list[tuple[Request, int]]:
        """Forget a row that is answered or failed, and return who waits for it."""
        with self._lock:
            self._forget(cell)
            return cell.waiters

    def _settle(self, cells: list[Cell], error: Exception) -> None:
        """Fail the requests of rows that could not be computed."""
        if not isinstance(error, QuoitError):
            longest = max(cell.tokens for cell in cells)
            error = ComputeError(
                f"the model cannot run a row of {longest:,} tokens ({brief(error)}); use a smaller max_tokens"
            )
        for cell in cells:
            for request, _ in self._finished(cell):
                request.fail(error)


def _fail(cell: Cell, error: Exception) -> None:
    for request, _ in cell.waiters:
        request.fail(error)


def _late(request: Request) -> DeadlineError:
    waited = time.monotonic() - request.submitted
    return DeadlineError(f"the text waited {waited:.1f} s, until its deadline; try again later, or wait longer")


def _close_at_exit(reference: "weakref.ref[Scheduler]") -> None:
    scheduler = reference()
    if scheduler is not None:
        scheduler.close()
