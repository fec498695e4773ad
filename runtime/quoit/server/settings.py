"""Define how a server listens, whom it lets in, and what it bears."""

from dataclasses import dataclass, field
from typing import Literal

from quoit.engine.scheduler import BULK_SHARE, MAX_QUEUED_TOKENS
from quoit.errors import InputError

LogFormat = Literal["text", "json"]
DefaultPrompt = Literal["query", "document", "none"]

KEY_VARIABLE = "QUOIT_API_KEY"
"""Environment variable with an API key."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Names of this machine that a server may listen on without keys."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a server.

    Attributes:
        host: address to listen on.
        port: port to listen on; 0 for any free one.
        uds: path of a Unix socket to listen on instead.
        passed: the socket was made by systemd, and is left to it at the end.
        keys: API keys by a name for the log; none for a server that asks for none.
        no_auth: other machines may use the server without a key.
        allowed_hosts: names that a request's Host may have besides those of this machine; `*` for any.
        cors_origins: origins whose pages may use the server.
        max_wait: seconds that a request waits at most until it begins to run; one that would wait longer is refused.
        max_queue_tokens: number of tokens that wait at most.
        bulk_share: share of the computing time that bulk work keeps while queries never stop.
        max_texts: number of texts of one request.
        max_documents: number of documents of one ranking.
        max_body_bytes: size of a request's body.
        max_request_tokens: number of tokens of one request.
        max_connections: number of connections at a time.
        body_seconds: seconds that a body may take to arrive.
        drain_delay: seconds after SIGTERM in which requests are still answered, while balancers notice that the
            server is not ready any more.
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
    passed: bool = False
    keys: dict[str, str] = field(default_factory=dict)
    no_auth: bool = False
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

    @property
    def address(self) -> str:
        """Return the address for people."""
        return self.uds or f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def check(self) -> None:
        """Check that not everybody can use the server.

        Raises:
            InputError: other machines can reach it, and it asks for no key.
        """
        if not (self.is_local or self.keys or self.no_auth):
            raise InputError(
                f"{self.address} lets other machines in, and there is no API key; name a file with --api-key-file, set "
                f"{KEY_VARIABLE}, or say --no-auth"
            )
