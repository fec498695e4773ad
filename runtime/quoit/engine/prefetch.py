"""Work done ahead of time: one item of an iterator is made in a thread while the one before it is used.

This module does not know what the items are.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def prefetch(items: Iterator[Item]) -> Iterator[Item]:
    """The items in their order, each asked for in one other thread as soon as the one before it is handed out.

    Where the iterator raises, the items before that come first. Whoever stops early leaves at most one item unused.
    """
    boxes = ((item,) for item in items)
    pool = ThreadPoolExecutor(1, thread_name_prefix="quoit-prefetch")
    try:
        following = pool.submit(next, boxes, None)
        while (box := following.result()) is not None:
            following = pool.submit(next, boxes, None)
            yield box[0]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
