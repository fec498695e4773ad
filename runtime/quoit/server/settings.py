"""Define how a server listens, whom it lets in, and what it bears."""

from dataclasses import dataclass, field
from typing import Literal

from quoit.engine.scheduler import BULK_SHARE, MAX_QUEUED_TOKENS

LogFormat = Literal["text", "json"]
DefaultPrompt = Literal["query", "document", "none"]

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Names of this machine that a server may listen on without keys."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a server.

    Attributes:
        host: address to listen on.
        port: port to listen on; 0 for any free one.
        uds: path of a Unix socket to listen on instead.
        keys: API keys by a name for the log; none for a server that asks for none.
        allowed_hosts: names that a request's Host may have besides those of this machine; `*` for any.
        cors_origins: origins whose pages may use the server.
        max_wait: seconds that a request waits for its answer at most; a longer wait that is foreseen is refused.
        max_queue_tokens: number of tokens that wait at most.
        bulk_share: share of the computing time that bulk work keeps while queries never stop.
        max_texts: number of texts of one request.
        max_documents: number of documents of one ranking.
        max_body_bytes: size of a request's body.
        max_request_tokens: number of tokens of one request.
        max_connections: number of connections at a time.
        body_seconds: seconds that a body may take to arrive.
        drain_delay: seconds between the first signal to end and the end of listening, in which balancers notice.
        token_ids: accept arrays of token ids, which have to be those of the model's own tokenizer.
        strict_model: refuse the names of other models.
        default_prompt: the prompt of texts whose request says nothing of it.
        isolate: share no batch and no computation between callers with different keys.
        ui: serve the page at `/`.
        log_format: form of the log lines.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    uds: str | None = None
    keys: dict[str, str] = field(default_factory=dict)
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    max_wait: float = 30.0
    max_queue_tokens: int = MAX_QUEUED_TOKENS
    bulk_share: float = BULK_SHARE
    max_texts: int = 2048
    max_documents: int = 1000
    max_body_bytes: int = 16 << 20
    max_request_tokens: int = 300_000
    max_connections: int = 1024
    body_seconds: float = 10.0
    drain_delay: float = 5.0
    token_ids: bool = False
    strict_model: bool = False
    default_prompt: DefaultPrompt = "none"
    isolate: bool = False
    ui: bool = True
    log_format: LogFormat = "text"

    @property
    def is_local(self) -> bool:
        """Return whether only this machine can reach the server."""
        return self.uds is not None or self.host in LOOPBACK
