"""Hash a sequence of texts with SHA-256, to tell whether a draft or a cached file belongs to these texts."""

import hashlib
from collections.abc import Iterable, Iterator

from quoit.text.prompts import check_text


class TextHash:
    """Running SHA-256 of consecutive texts."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def follow(self, texts: Iterable[str]) -> Iterator[str]:
        """Yield the texts and hash each one as it passes.

        Raises:
            TypeError, InputError: see `quoit.text.prompts.check_text`; the hash then covers the texts before the error.
        """
        for index, text in enumerate(texts):
            self.add(check_text(text, f"text {index}").encode())
            yield text

    def add(self, content: bytes) -> None:
        """Hash what belongs to the text that follows."""
        self._hash.update(len(content).to_bytes(8, "little"))
        self._hash.update(content)

    def hexdigest(self) -> str:
        """Return the hash of the texts so far, in hexadecimal."""
        return self._hash.hexdigest()
