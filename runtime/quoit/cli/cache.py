"""`quoit cache`: the models that were fetched from the hub or exported from it."""

import argparse
from typing import TYPE_CHECKING

from quoit.cli.process import show
from quoit.errors import InputError

if TYPE_CHECKING:
    from quoit.cli.options import Commands


def add_to(commands: "Commands") -> None:
    """Add the command to the parser."""
    cache = commands.add_parser("cache", help="models that were fetched from the hub or exported from it")
    actions = cache.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="show them with their sizes and folders")
    listing.set_defaults(run=run_list)
    prune = actions.add_parser("prune", help="remove superseded commits and unfinished exports, or what is named")
    prune.add_argument("models", nargs="*", metavar="MODEL", help="ORG/NAME to remove, with all its commits")
    prune.add_argument("--all", action="store_true", help="remove all models")
    prune.add_argument("--dry-run", action="store_true", help="show what would be removed, and remove nothing")
    prune.set_defaults(run=run_prune)


def run_list(_: argparse.Namespace) -> int:
    """Run `quoit cache list`, and return its exit code."""
    need_hub()
    from quoit.hub.cache import kept_models
    from quoit.machine import cache_folder

    models = kept_models()
    for model in models:
        show(model.describe())
    show(f"{cache_folder()}: {len(models)} models, {sum(model.bytes for model in models) / 1e6:,.1f} MB")
    return 0


def run_prune(options: argparse.Namespace) -> int:
    """Run `quoit cache prune`, and return its exit code."""
    need_hub()
    from quoit.hub.cache import prune, remove

    if options.all and options.models:
        raise InputError(f"--all and {options.models[0]} ask for different things; give one of them")
    chosen = prune(options.models, everything=options.all)
    for model in chosen:
        show(model.describe())
    if options.dry_run:
        show(f"{len(chosen)} models would be removed")
    else:
        show(f"{len(chosen)} models removed, {remove(chosen) / 1e6:,.1f} MB freed")
    return 0


def need_hub() -> None:
    """Refuse to go on without huggingface_hub.

    Raises:
        InputError: it is not installed.
    """
    try:
        import huggingface_hub  # noqa: F401  quoit.hub.cache needs it
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed; `pip install 'quoit[hub]'`") from error
