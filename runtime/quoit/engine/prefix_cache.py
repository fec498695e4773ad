"""The LRU cache of prompt keys and values, filled on a prompt's second use.

What a prompt's tokens contribute to the texts behind them is the same every time. From a prompt's second use on it is
taken from memory, so that a query costs its own tokens only, and not those of its instruction. Answers stay the same,
bit for bit. A prompt that is used once costs nothing. This module does not know what the tokens mean.
"""

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import numpy as np

from quoit.engine.layouts import PrefixCaching
from quoit.engine.planner import Ids, batch_of
from quoit.ort.graph_inputs import Inputs
from quoit.ort.session import Session
from quoit.text.tokenizer import TextTokenizer

MAX_PROMPTS = 64
"""Maximum number of prompts that are remembered as used."""
MAX_CHARACTERS = 4096
"""Maximum characters of a cached prompt."""
DEFAULT_TOKENS = 512
"""Tokens of all cached prompts together; 0.6B takes 229 KB for each."""


@dataclass(frozen=True)
class CachedPrefix:
    """The keys and values of a prefix.

    Attributes:
        ids: [P] int64, its token ids.
        past: the graph's inputs of every layer's keys and values, [P, kv_heads * head_dim] float32 each.
    """

    ids: Ids
    past: Inputs


class PrefixCache:
    """The cached prompts of one session. Safe to use from several threads.

    Attributes:
        max_tokens: tokens of all cached prompts together; 0 caches nothing.
        max_prompt_tokens: tokens of the longest prompt that is worth caching.
    """

    def __init__(
        self,
        session: Session,
        caching: PrefixCaching | None,
        tokenizer: TextTokenizer,
        *,
        max_prompt_tokens: int,
        max_tokens: int = DEFAULT_TOKENS,
    ) -> None:
        """An empty cache.

        Args:
            session: computes prefixes.
            caching: how its graph gives and takes them; None where it cannot.
            tokenizer: of the same artifact.
            max_prompt_tokens: tokens of the longest prompt that is worth caching.
            max_tokens: tokens of all cached prompts together; 0 caches nothing.
        """
        self.max_tokens = max_tokens
        self.max_prompt_tokens = min(max_prompt_tokens, max_tokens)
        self._session = session
        self._caching = caching if session.presents and max_tokens else None
        self._tokenizer = tokenizer
        self._entries: OrderedDict[str, CachedPrefix | None] = OrderedDict()  # None: used once, or too long
        self._computing: set[str] = set()
        self._lock = Lock()

    @property
    def enabled(self) -> bool:
        """Whether anything can be cached."""
        return self._caching is not None

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts that are remembered, the one used last at the end."""
        with self._lock:
            return tuple(self._entries)

    @property
    def cached_tokens(self) -> int:
        """Tokens of all cached prompts."""
        with self._lock:
            return self._tokens()

    def clear(self) -> None:
        """Forget every prompt."""
        with self._lock:
            self._entries.clear()

    def get(self, prompt: str) -> CachedPrefix | None:
        """The cached prefix of a prompt; None on its first use, where it cannot be cached, and while it is computed.

        The thread that uses a prompt for the second time computes it, outside the lock. Other threads do not wait for
        that: until it is there, their texts compute the prompt themselves, with the same bits.
        """
        if self._caching is None or not 0 < len(prompt) <= MAX_CHARACTERS:
            return None
        with self._lock:
            is_known = prompt in self._entries
            entry = self._entries.pop(prompt, None)
            self._entries[prompt] = entry
            self._evict()
            if entry is not None or not is_known or prompt in self._computing:
                return entry
            self._computing.add(prompt)
        try:
            entry = self._compute(prompt, self._caching)
        finally:
            with self._lock:
                self._computing.discard(prompt)
        with self._lock:
            self._entries.pop(prompt, None)
            self._entries[prompt] = entry
            self._evict()
        return entry

    def _compute(self, prompt: str, caching: PrefixCaching) -> CachedPrefix | None:
        """The prefix of a prompt; None where it is too long."""
        prefix = self._tokenizer.beginning(prompt)
        if not 0 < len(prefix) <= self.max_prompt_tokens:
            return None
        batch = batch_of(prefix)
        return CachedPrefix(
            np.asarray(prefix, np.int64), caching.past(self._session.run_presents(caching.request(batch)))
        )

    def _tokens(self) -> int:
        return sum(len(entry.ids) for entry in self._entries.values() if entry)

    def _evict(self) -> None:
        """Drop the prompts used longest ago, while there are too many of them or of their tokens."""
        tokens = self._tokens()
        while len(self._entries) > MAX_PROMPTS or tokens > self.max_tokens:
            _, entry = self._entries.popitem(last=False)
            tokens -= len(entry.ids) if entry else 0
