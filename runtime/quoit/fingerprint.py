"""The SHA-256 of plain values: tells whether a draft, a cached file or a tuning belongs to what runs now."""

import hashlib

import msgspec


def digest(*parts: object) -> str:
    """The SHA-256 of some values, in hexadecimal.

    The values are hashed as MessagePack (https://msgpack.org), which keeps types apart: 1, 1.0, "1", True and None all
    differ. The keys of a mapping are sorted, so that their order does not count.

    Args:
        *parts: None, booleans, integers of 64 bits, floats, strings, bytes, and lists, tuples (the same as lists) and
            dictionaries of those with strings as keys.

    Raises:
        TypeError: a value is of another type, such as an array of numpy.
    """
    return hashlib.sha256(msgspec.msgpack.encode(parts, order="deterministic")).hexdigest()
