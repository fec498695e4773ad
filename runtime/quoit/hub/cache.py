"""List and remove the models that were fetched and exported."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from filelock import Timeout
from huggingface_hub import scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from quoit.artifact import MANIFEST, is_file
from quoit.errors import InputError
from quoit.hub.exports import waiting_lock
from quoit.hub.folders import exports_folder, hub_folder
from quoit.hub.lookup import MAIN, remembered
from quoit.hub.names import HubName

Kind = Literal["fetched", "exported", "unfinished"]


@dataclass(frozen=True)
class Kept:
    """A model in the cache.

    Attributes:
        repository: `ORG/NAME`.
        commit: the commit.
        kind: how it came here; `unfinished` is an export that was interrupted.
        current: True if a revision that was asked for is at this commit, as far as is known.
        bytes: its size; commits of one repository share files that are equal, which count for each of them.
        changed: time of its latest change, in seconds since the epoch.
        folder: the artifact's folder.
    """

    repository: str
    commit: str
    kind: Kind
    current: bool
    bytes: int
    changed: float
    folder: Path

    def describe(self) -> str:
        """Return a line about it."""
        day = datetime.fromtimestamp(self.changed).astimezone().date()
        old = "" if self.current or self.kind == "unfinished" else ", superseded"
        return (
            f"{self.repository}@{self.commit[:12]}: {self.kind}{old}, {self.bytes / 1e6:,.1f} MB, {day}, {self.folder}"
        )


def kept_models() -> list[Kept]:
    """Return all models in the cache, by name."""
    return sorted([*_fetched(), *_exported()], key=lambda each: (each.repository, -each.changed))


def prune(models: Sequence[str] = (), *, everything: bool = False) -> list[Kept]:
    """Return what `remove` should remove: superseded commits and unfinished exports, whole models, or everything.

    What is being exported now is left alone.

    Args:
        models: `ORG/NAME` of models to remove; none for what is superseded or unfinished.
        everything: True for all models.

    Raises:
        InputError: a model is not in the cache.
    """
    kept = kept_models()
    have = {each.repository for each in kept}
    for name in models:
        if name not in have:
            raise InputError(f"{name} is not in the cache; it has {', '.join(sorted(have)) or 'no model'}")
    if models:
        kept = [each for each in kept if each.repository in models]
    elif not everything:
        kept = [each for each in kept if not each.current or each.kind == "unfinished"]
    return [each for each in kept if not _is_busy(each)]


def remove(kept: Sequence[Kept]) -> int:
    """Remove models from the cache, and return how many bytes that freed."""
    before = _bytes_of(hub_folder()) + _bytes_of(exports_folder())
    fetched = [each.commit for each in kept if each.kind == "fetched"]
    if fetched:
        scan_cache_dir(hub_folder()).delete_revisions(*fetched).execute()
    for each in kept:
        if each.kind != "fetched":
            shutil.rmtree(each.folder)
    return before - _bytes_of(hub_folder()) - _bytes_of(exports_folder())


def _fetched() -> list[Kept]:
    try:
        found = scan_cache_dir(hub_folder())
    except CacheNotFound:
        return []
    return [
        Kept(
            repository=repository.repo_id,
            commit=revision.commit_hash,
            kind="fetched",
            current=_is_current(repository.repo_id, revision.commit_hash),
            bytes=revision.size_on_disk,
            changed=revision.last_modified,
            folder=revision.snapshot_path,
        )
        for repository in found.repos
        for revision in repository.revisions
    ]


def _exported() -> list[Kept]:
    folders = [folder for folder in exports_folder().glob("*/*") if folder.is_dir()]
    return [
        Kept(
            repository=folder.parent.name.replace("--", "/", 1),
            commit=folder.name.strip(".").partition(".")[0],
            kind="exported" if is_file(folder / MANIFEST) else "unfinished",
            current=_is_current(folder.parent.name.replace("--", "/", 1), folder.name),
            bytes=_bytes_of(folder),
            changed=folder.stat().st_mtime,
            folder=folder,
        )
        for folder in folders
    ]


def _is_busy(kept: Kept) -> bool:
    """Return whether a process exports to this folder now."""
    if kept.kind == "fetched":
        return False
    lock = waiting_lock(kept.folder.with_name(kept.commit))
    try:
        with lock.acquire(blocking=False):
            return False
    except Timeout:
        return True


def _is_current(repository: str, commit: str) -> bool:
    """Return whether a revision that is no commit was last found at this commit, or only this commit was asked for."""
    known = remembered(HubName(repository))
    named = {found.commit for revision, found in known.items() if revision != found.commit}
    main = known.get(MAIN)
    return commit in named if main is not None else commit in named or commit in known


def _bytes_of(folder: Path) -> int:
    """Return the bytes of a folder's files; links are left out."""
    files = (file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    return sum(file.stat().st_size for file in files)
