"""Hash plain values with SHA-256, to tell whether a draft, a cached file or a tuning belongs to the current run."""

import hashlib

import msgspec


def digest(*parts: object) -> str:
    """Return the SHA-256 of some values, in hexadecimal.

    The values are hashed as MessagePack (https://msgpack.org), which keeps types apart: 1, 1.0, "1", True and None all
    differ. The keys of a mapping are sorted, so their order does not matter.

    Args:
        *parts: None, booleans, integers of 64 bits, floats, strings, bytes, and lists, tuples and dictionaries of
            these. Tuples are the same as lists; the keys of dictionaries are strings.

    Raises:
        TypeError: a value is of another type, such as an array of numpy.
    """
    return hashlib.sha256(msgspec.msgpack.encode(parts, order="deterministic")).hexdigest()
