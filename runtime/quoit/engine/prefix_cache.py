"""The prompts that texts of late stood behind, and the keys and values of those met more than once.

What a prompt's tokens contribute to the texts behind them is the same every time. From a prompt's second call on it is
taken from memory, so that a query costs its own tokens only, and not those of its instruction. Answers stay what they
are, bit for bit. A prompt that is met once costs nothing. This module does not know what the tokens mean.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock

from quoit.ort.session import Kept, Session
from quoit.text.tokenizer import TextTokenizer

MOST_PROMPTS = 64
"""Remembered as met."""
MOST_CHARACTERS = 4096
"""Of a prompt."""
MOST_TOKENS = 512
"""Kept in all, of the prompts met last; 0.6B has 229 KB a token."""


@dataclass(frozen=True)
class KeptPrompts:
    """The prompts of one session.

    Attributes:
        session: computes them.
        tokenizer: of the same artifact.
        longest: the most tokens of a prompt that is worth keeping.
    """

    session: Session
    tokenizer: TextTokenizer
    longest: int
    _met: OrderedDict[str, Kept | None] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def meet(self, prompt: str) -> Kept | None:
        """What is kept of a prompt, if it was met before. Safe to call from several threads."""
        if not self.session.keeps or not 0 < len(prompt) <= MOST_CHARACTERS:
            return None
        with self._lock:
            met = prompt in self._met
            kept = self._met.pop(prompt, None)
            if met and kept is None:
                kept = self._compute(prompt)
            self._met[prompt] = kept
            self._forget()
        return kept

    def _compute(self, prompt: str) -> Kept | None:
        prefix = self.tokenizer.beginning(prompt)
        return self.session.keep(prefix) if 0 < len(prefix) <= self.longest else None

    def _forget(self) -> None:
        """Drops the prompts met longest ago, while there are too many of them or of their tokens."""
        tokens = sum(len(kept.prefix) for kept in self._met.values() if kept)
        while len(self._met) > MOST_PROMPTS or tokens > MOST_TOKENS:
            _, kept = self._met.popitem(last=False)
            tokens -= len(kept.prefix) if kept else 0
