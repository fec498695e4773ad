"""Decide the order of queued rows within a lane.

Both lanes are heaps from which rows that are no longer wanted, or that moved to the other lane, are left out when they
come up. These classes do not lock; the scheduler does.
"""

import heapq
import math
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Protocol

from quoit.engine.scheduler.requests import Cell, Group, Terms

Entry = tuple[int, float, int, Cell]
"""Priority, deadline, number of arrival, row."""
Budget = Callable[[Group], int]
"""Function that returns about how many tokens of a group to take."""


Turn = tuple[int, float]
"""Priority and deadline, rounded; rows of one turn are counted together."""
TURN_SECONDS = 0.25


def turn_of(priority: int, deadline: float) -> Turn:
    """Return the turn of a row."""
    return priority, deadline if deadline == math.inf else deadline // TURN_SECONDS


class Queue(Protocol):
    """The waiting rows of a lane."""

    def push(self, cell: Cell, terms: Terms) -> None:
        """Add a row."""

    def take(self, budget: Budget) -> list[Cell]:
        """Remove and return the next rows: those of one group that fit in a budget; at least one row if any waits."""


class QueryQueue:
    """Rows by priority, then by deadline, then by arrival."""

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._arrivals = count()
        self._tokens: Counter[Turn] = Counter()

    def push(self, cell: Cell, terms: Terms) -> None:
        """Add a row."""
        self._put((terms.priority, terms.deadline, next(self._arrivals), cell))

    def tokens_before(self, priority: int, deadline: float) -> int:
        """Return the tokens of rows that go before one with this priority and deadline, or at about the same time."""
        turn = turn_of(priority, deadline)
        return sum(tokens for each, tokens in self._tokens.items() if each <= turn)

    def _put(self, entry: Entry) -> None:
        heapq.heappush(self._heap, entry)
        self._tokens[turn_of(*entry[:2])] += entry[-1].tokens

    def _next(self) -> Entry:
        entry = heapq.heappop(self._heap)
        turn = turn_of(*entry[:2])
        self._tokens[turn] -= entry[-1].tokens
        if not self._tokens[turn]:
            del self._tokens[turn]
        return entry

    def take(self, budget: Budget) -> list[Cell]:
        """Remove and return the next rows; see `Queue`. Rows of other groups keep their places."""
        taken: list[Cell] = []
        others: list[Entry] = []
        tokens = 1
        while self._heap and tokens > 0:
            entry = self._next()
            cell = entry[-1]
            if cell.running or cell.lane != "query":
                continue
            if not taken:
                tokens = budget(cell.group)
            elif cell.group != taken[0].group:
                others.append(entry)
                continue
            taken.append(cell)
            tokens -= cell.tokens
        for entry in others:
            self._put(entry)
        return taken


class BulkQueue:
    """Rows by priority; among equals, of the owner who was served the fewest tokens; then by arrival.

    A request that was begun is taken whole, as far as the budget goes: if all requests of all owners went on at once,
    each would end as late as the last one. An owner who comes back starts with the least share among those who wait, so
    nobody saves up turns.
    """

    def __init__(self) -> None:
        self._heaps: dict[str, list[Entry]] = {}
        self._served: dict[str, float] = {}
        self._arrivals = count()

    @property
    def owners(self) -> frozenset[str]:
        """Return the owners who have rows here."""
        return frozenset(self._heaps)

    def push(self, cell: Cell, terms: Terms) -> None:
        """Add a row."""
        if terms.owner not in self._heaps:
            self._heaps[terms.owner] = []
            self._served[terms.owner] = min(self._served.values(), default=0.0)
        if cell.arrival is None:
            cell.arrival = next(self._arrivals)
        heapq.heappush(self._heaps[terms.owner], (terms.priority, 0.0, cell.arrival, cell))

    def put_back(self, cell: Cell, terms: Terms) -> None:
        """Return a row that was taken and did not run to its old place; its owner was not served by it."""
        self.push(cell, terms)
        self._served[terms.owner] -= cell.tokens

    def take(self, budget: Budget) -> list[Cell]:
        """Remove and return the next rows; see `Queue`. An owner whose next row is of another group is passed over."""
        taken: list[Cell] = []
        passed: set[str] = set()
        tokens = 1
        while tokens > 0 and (owner := self._next_owner(passed)) is not None:
            cell = self._heaps[owner][0][-1]
            if not taken:
                tokens = budget(cell.group)
            elif cell.group != taken[0].group:
                passed.add(owner)
                continue
            request, priority = cell.request, self._heaps[owner][0][0]
            head: Cell | None = cell
            while head is not None and tokens > 0:
                if head.request is not request or self._heaps[owner][0][0] != priority:
                    break
                heapq.heappop(self._heaps[owner])
                taken.append(head)
                tokens -= head.tokens
                self._served[owner] += head.tokens
                head = self._head(owner)
        return taken

    def _next_owner(self, passed: set[str]) -> str | None:
        """Return the owner to serve; owners without rows are forgotten."""
        for owner in list(self._heaps):
            if self._head(owner) is None:
                del self._heaps[owner], self._served[owner]
        waiting = self._heaps.keys() - passed
        return min(waiting, key=self._turn, default=None)

    def _turn(self, owner: str) -> tuple[int, float, int]:
        """Return what decides whose turn it is: priority, tokens served, arrival."""
        priority, _, arrival, _ = self._heaps[owner][0]
        return priority, self._served[owner], arrival

    def _head(self, owner: str) -> Cell | None:
        """Return an owner's next row; those that run already, or went to the other lane, are left out."""
        heap = self._heaps[owner]
        while heap and (heap[0][-1].running or heap[0][-1].lane != "bulk"):
            heapq.heappop(heap)
        return heap[0][-1] if heap else None
