"""Provide the LRU cache of prompt keys and values, filled on a prompt's second use.

The keys and values of a prompt's tokens are the same for every text that follows it. From a prompt's second use on,
they are taken from memory, so a query costs its own tokens only, and not those of its instruction. Answers stay the
same, bit for bit. A prompt that is used once costs nothing.
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
"""Maximum number of prompts that the cache remembers."""
MAX_CHARACTERS = 4096
"""Maximum characters of a cached prompt."""
DEFAULT_TOKENS = 512
"""Default maximum number of tokens of all cached prompts together; the 0.6B model takes 229 KB for each token."""


@dataclass(frozen=True)
class CachedPrefix:
    """The keys and values of a prefix.

    Attributes:
        ids: token ids of the prefix, [P] int64.
        past: keys and values of every layer as inputs of the graph, [P, kv_heads * head_dim] float32 each.
    """

    ids: Ids
    past: Inputs


class PrefixCache:
    """LRU cache of the prompts of one session. It is safe to use from several threads.

    Attributes:
        max_tokens: maximum number of tokens of all cached prompts together; 0 caches nothing.
        max_prompt_tokens: maximum number of tokens of one cached prompt.
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
        """Make an empty cache.

        Args:
            session: the session that computes prefixes.
            caching: functions to get and feed keys and values with the session's graph; None if it cannot do that.
            tokenizer: tokenizer of the same artifact.
            max_prompt_tokens: maximum number of tokens of one cached prompt.
            max_tokens: maximum number of tokens of all cached prompts together; 0 caches nothing.
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
        """Return whether anything can be cached."""
        return self._caching is not None

    @property
    def prompts(self) -> tuple[str, ...]:
        """Return the prompts that the cache remembers, the most recently used one last."""
        with self._lock:
            return tuple(self._entries)

    @property
    def cached_tokens(self) -> int:
        """Return the number of tokens of all cached prompts."""
        with self._lock:
            return self._tokens()

    def clear(self) -> None:
        """Forget every prompt."""
        with self._lock:
            self._entries.clear()

    def get(self, prompt: str) -> CachedPrefix | None:
        """Return the cached prefix of a prompt; None if it is used first, cannot be cached, or is being computed.

        The thread that uses a prompt for the second time computes its prefix, outside the lock. Other threads do not
        wait: until the prefix is cached, they compute the prompt with their texts, with the same bits.
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
        """Compute the prefix of a prompt; None if it is empty or too long."""
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
        """Drop the least recently used prompts while there are too many prompts or too many tokens."""
        tokens = self._tokens()
        while len(self._entries) > MAX_PROMPTS or tokens > self.max_tokens:
            _, entry = self._entries.popitem(last=False)
            tokens -= len(entry.ids) if entry else 0
