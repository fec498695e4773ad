"""Define the arguments that several commands share, and turn them into options."""

import argparse
import os
import sys
from typing import TYPE_CHECKING, get_args

from quoit.artifact import Precision
from quoit.engine.options import Options
from quoit.errors import InputError
from quoit.files.readers import KINDS
from quoit.ort.providers import ProviderRequest

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

MODEL_VARIABLE = "QUOIT_MODEL"
RERANKER_VARIABLE = "QUOIT_RERANKER"


def add_input(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how a file of texts is read."""
    parser.add_argument(
        "--input-format", choices=KINDS, help="default: the file's suffix before .gz, txt for - and pipes"
    )
    parser.add_argument(
        "--column", default="text", help="the text's column or key, a.b for the key b of the object a (default: text)"
    )
    parser.add_argument("--delimiter", help=r"between the fields of csv and tsv (default: a comma and \t)")
    parser.add_argument("--skip-missing", action="store_true", help="leave out records without a text, such as null")


def add_model(parser: argparse.ArgumentParser, variable: str) -> None:
    """Add the arguments that say which artifact runs, and how."""
    default = os.environ.get(variable)
    parser.add_argument(
        "-m",
        "--model",
        default=default,
        help=f"the artifact folder, or a hub id (default: the environment variable {variable})",
    )
    parser.set_defaults(variable=variable)
    add_run_options(parser)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how an artifact runs."""
    parser.add_argument("--precision", choices=get_args(Precision))
    parser.add_argument("--provider", choices=get_args(ProviderRequest), default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--max-tokens", type=int, help="cut longer texts to so many tokens")
    parser.add_argument(
        "--tuned", action="store_true", help="run as `quoit bench` found best for many texts on this machine"
    )
    parser.add_argument("--tuning", metavar="FILE", help="the same, from a file that `quoit bench -o FILE` wrote")


def check_argument(name: str, value: str | None) -> None:
    """Refuse an argument with bytes that are not in the locale's encoding; Python puts surrogates in their place.

    Raises:
        InputError: the argument has such bytes.
    """
    try:
        (value or "").encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} {value!a} has bytes that are not {sys.getfilesystemencoding()}; give it in that encoding, or set "
            "LC_ALL to a UTF-8 locale, such as C.UTF-8"
        ) from error


def model_of(options: argparse.Namespace) -> str:
    """Return the artifact folder or hub id.

    Raises:
        InputError: none was named.
    """
    if not options.model:
        raise InputError(f"no artifact was named; use --model FOLDER, or set {options.variable}")
    return str(options.model)


def run_options(options: argparse.Namespace) -> Options:
    """Return the options of a run, as `quoit.Embedder` and `quoit.Reranker` take them."""
    return Options(
        precision=options.precision,
        provider=options.provider,
        threads=options.threads,
        max_tokens=options.max_tokens,
        tuned="throughput" if options.tuned else None,
        tuning=options.tuning,
    )
