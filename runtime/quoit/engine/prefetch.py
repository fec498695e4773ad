"""Prefetch an iterator: make the next item in a thread while the current one is used."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def prefetch(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items in order. One thread starts on the next item when the current one is ready.

    If the iterator raises, the items before the error come first. Stopping early discards at most one prefetched item.
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
