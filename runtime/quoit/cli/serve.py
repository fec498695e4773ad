"""`quoit serve` and `quoit health`: a server, and the question whether it is ready."""

import argparse
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from quoit.artifact import open_artifact
from quoit.cli.options import MODEL_VARIABLE, add_run_options, run_options
from quoit.cli.process import show, tell
from quoit.errors import InputError, QuoitError
from quoit.hub.names import hub_name

if TYPE_CHECKING:
    from quoit.cli.options import Commands
    from quoit.server.run import Served
    from quoit.server.settings import Settings

KEY_VARIABLE = "QUOIT_API_KEY"  # as in quoit.server.settings, which this command imports when it runs
HEALTH_SECONDS = 2.0
UNHEALTHY = 1
MANY = 1 << 31
BOUNDS = {
    "port": (0, 65535),
    "max_wait": (0.001, 86400),
    "max_queue_tokens": (1, MANY),
    "bulk_share": (0, 1),
    "max_texts": (1, MANY),
    "max_documents": (1, MANY),
    "max_request_tokens": (1, MANY),
    "max_connections": (1, MANY),
    "max_body": (1, MANY),
    "drain_delay": (0, 86400),
}
"""Least and greatest values of the options that are numbers."""


def add_to(commands: "Commands") -> None:
    """Add both commands."""
    _add_serve(commands.add_parser("serve", help="serve an embedder, a reranker or both over HTTP"))
    health = commands.add_parser("health", help="ask whether a server is ready; exit code 0 if it is, 1 if not")
    health.add_argument("url", nargs="?", default="http://127.0.0.1:8080", help="the server (default: %(default)s)")
    health.set_defaults(run=run_health)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    default = os.environ.get(MODEL_VARIABLE)
    parser.add_argument(
        "artifact",
        nargs="?",
        default=default,
        help="an embedding artifact, or a reranker to serve alone: a folder or a hub id",
    )
    parser.add_argument("--reranker", metavar="MODEL", help="a rerank artifact to serve beside it")
    parser.add_argument("--name", help="name of the embedding model for callers (default: the folder's)")
    parser.add_argument("--reranker-name", metavar="NAME", help="name of the reranker for callers")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="0 for any free one (default: %(default)s)")
    parser.add_argument("--uds", metavar="PATH", help="listen on a Unix socket instead")
    parser.add_argument(
        "--api-key-file", metavar="FILE", help=f"file with an API key in each line (or one key in {KEY_VARIABLE})"
    )
    parser.add_argument("--no-auth", action="store_true", help="listen beyond this machine without API keys")
    parser.add_argument(
        "--allowed-host", action="append", default=[], metavar="NAME", help="name callers may use; * for any"
    )
    parser.add_argument(
        "--cors-origin", action="append", default=[], metavar="ORIGIN", help="site whose pages may call"
    )
    parser.add_argument(
        "--max-wait", type=float, default=30.0, metavar="S", help="refuse what would wait longer (%(default)g)"
    )
    parser.add_argument("--max-queue-tokens", type=int, metavar="N", help="refuse more waiting tokens")
    parser.add_argument(
        "--bulk-share", type=float, metavar="SHARE", help="computing time kept for bulk work (default: 0.2)"
    )
    parser.add_argument("--max-texts", type=int, default=2048, metavar="N", help="texts of a request (%(default)s)")
    parser.add_argument(
        "--max-documents", type=int, default=1000, metavar="N", help="documents of a ranking (%(default)s)"
    )
    parser.add_argument(
        "--max-request-tokens", type=int, default=300_000, metavar="N", help="tokens of a request (%(default)s)"
    )
    parser.add_argument(
        "--max-connections", type=int, default=1024, metavar="N", help="requests at a time (%(default)s)"
    )
    parser.add_argument(
        "--max-body", type=int, default=16 << 20, metavar="BYTES", help="size of a request (%(default)s)"
    )
    parser.add_argument(
        "--drain-delay", type=float, default=5.0, metavar="S", help="from a signal to the end of listening"
    )
    parser.add_argument("--default-prompt", choices=("query", "document", "none"), default="none")
    parser.add_argument("--token-ids", action="store_true", help="accept token ids of this model's tokenizer")
    parser.add_argument("--strict-model", action="store_true", help="refuse other models' names")
    parser.add_argument("--isolate", action="store_true", help="share no computation between API keys")
    parser.add_argument("--no-ui", action="store_true", help="serve no page at /")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    add_run_options(parser)
    parser.set_defaults(run=run_serve)


def run_serve(options: argparse.Namespace) -> int:
    """Serve until a signal ends the process."""
    try:
        from quoit.server.run import NOT_LOADABLE, serve
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed; `pip install 'quoit[server]'`") from error
    settings = settings_of(options)
    if options.artifact is None and options.reranker is None:
        raise InputError(f"no artifact was named; use `quoit serve FOLDER`, or set {MODEL_VARIABLE}")
    try:
        return serve(served_of(options), settings, tell)
    except InputError:
        raise
    except QuoitError as error:
        tell(f"quoit: {error}")
        return NOT_LOADABLE


def served_of(options: argparse.Namespace) -> "Served":
    """Return what the command line asks to serve.

    Raises:
        ArtifactError: a folder is no artifact, or is damaged; hub ids are looked up while the server listens.
    """
    from quoit.server.run import Served

    folders, names = (options.artifact, options.reranker), (options.name, options.reranker_name)
    for folder in folders:
        if folder is not None and hub_name(folder) is None:
            open_artifact(folder)
    if names[0] is not None and names[0] == names[1]:
        raise InputError(f"--name and --reranker-name are both {names[0]!r}; choose two names")
    return Served(*folders, run_options(options), names)


def settings_of(options: argparse.Namespace) -> "Settings":
    """Return the settings that the command line names.

    Raises:
        InputError: a value is out of bounds, or the server would be open to everybody without keys.
    """
    from quoit.engine.scheduler import BULK_SHARE, MAX_QUEUED_TOKENS
    from quoit.server.settings import Settings

    for name, (least, most) in BOUNDS.items():
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            raise InputError(f"--{name.replace('_', '-')} {value} is out of bounds; use {least:,} to {most:,}")
    settings = Settings(
        host=options.host,
        port=options.port,
        uds=options.uds,
        keys=read_keys(options.api_key_file),
        no_auth=options.no_auth,
        allowed_hosts=tuple(options.allowed_host),
        cors_origins=tuple(options.cors_origin),
        max_wait=options.max_wait,
        max_queue_tokens=MAX_QUEUED_TOKENS if options.max_queue_tokens is None else options.max_queue_tokens,
        bulk_share=BULK_SHARE if options.bulk_share is None else options.bulk_share,
        max_texts=options.max_texts,
        max_documents=options.max_documents,
        max_request_tokens=options.max_request_tokens,
        max_connections=options.max_connections,
        max_body_bytes=options.max_body,
        drain_delay=options.drain_delay,
        token_ids=options.token_ids,
        strict_model=options.strict_model,
        default_prompt=options.default_prompt,
        isolate=options.isolate,
        ui=not options.no_ui,
        log_format=options.log_format,
    )
    settings.check()
    if "*" in settings.cors_origins and settings.keys:
        raise InputError("--cors-origin * lets every site use a key; name the sites")
    return settings


def read_keys(file: str | None) -> dict[str, str]:
    """Return the API keys of a file and of the environment, by a name for the log that gives nothing away.

    Raises:
        InputError: the file cannot be read, or has no key.
    """
    keys: list[str] = []
    if file is not None:
        try:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"cannot read the API keys of {file} ({error}); name a text file with a key in a line"
            ) from error
        keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not keys:
            raise InputError(f"{file} has no API key; write one in a line")
    if os.environ.get(KEY_VARIABLE):
        keys.append(os.environ[KEY_VARIABLE])
    return {f"key {number}": key for number, key in enumerate(dict.fromkeys(keys), start=1)}


def run_health(options: argparse.Namespace) -> int:
    """Ask a server whether it is ready."""
    url = options.url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url[:80]!r} is no address; use http://HOST:PORT")
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=HEALTH_SECONDS):
            show("ready")
            return 0
    except urllib.error.HTTPError as error:
        show(f"not ready: {error.read(200).decode(errors='replace')}")
    except (OSError, ValueError) as error:
        show(f"not there: {getattr(error, 'reason', error)}")
    return UNHEALTHY
