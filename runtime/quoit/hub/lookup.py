"""Ask the hub what a name is, and remember the answer for times without a network."""

import logging

import msgspec
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from quoit.artifact import MANIFEST
from quoit.errors import ArtifactError, InputError, brief
from quoit.files.atomic import replacing
from quoit.hub.folders import names_folder
from quoit.hub.names import COMMIT, HubName

SECONDS = 10.0
"""Seconds that the hub may take to say what a name is."""
MAIN = "main"

logger = logging.getLogger("quoit")


class Found(msgspec.Struct, frozen=True):
    """What a name is on the hub.

    Attributes:
        commit: the commit.
        holds_artifact: True if the repository holds what `quoit-export` wrote, False if it is a checkpoint.
        sizes: bytes of the files by path, as far as the hub says; empty if the hub was not asked.
    """

    commit: str
    holds_artifact: bool
    sizes: dict[str, int] = {}


Remembered = dict[str, Found]
"""What was found, by revision."""


def look_up(name: HubName) -> Found:
    """Return what a name is.

    A commit whose answer is known is not asked for again. If the hub cannot be asked, the last answer is used, with a
    warning.

    Raises:
        ArtifactError: the hub knows no such name, or cannot be asked, and the answer is not known here.
    """
    revision = name.revision or MAIN
    known = remembered(name).get(revision)
    if known is not None and COMMIT.fullmatch(revision):
        return known
    try:
        info = HfApi(library_name="quoit").model_info(
            name.repository, revision=name.revision, files_metadata=True, timeout=SECONDS
        )
    except Exception as error:  # the errors of the HTTP library below depend on its version
        if known is None:
            raise ArtifactError(explain(name, error)) from error
        logger.warning("the hub cannot say what %s is now (%s); using %s", name, reason(error), known.commit[:12])
        return known
    files = {file.rfilename: file.size for file in info.siblings or ()}
    if info.sha is None or not COMMIT.fullmatch(info.sha):
        raise ArtifactError(f"the hub names no commit of {name}; check the setting HF_ENDPOINT")
    found = Found(info.sha, MANIFEST in files, {path: size for path, size in files.items() if size is not None})
    remember(name, {revision: found, found.commit: found})
    return found


def remembered(name: HubName) -> Remembered:
    """Return what was found of a repository; nothing if that cannot be read."""
    try:
        return msgspec.json.decode((names_folder() / f"{name.folder}.json").read_bytes(), type=Remembered)
    except (OSError, msgspec.MsgspecError):
        return {}


def remember(name: HubName, found: Remembered) -> None:
    """Keep what was found of a repository, without sizes; nothing happens where the cache cannot be written."""
    kept = {revision: Found(each.commit, each.holds_artifact) for revision, each in found.items()}
    before = remembered(name)
    if before | kept == before:
        return
    try:
        names_folder().mkdir(parents=True, exist_ok=True)
        with replacing(names_folder() / f"{name.folder}.json") as draft:
            draft.write_bytes(msgspec.json.encode(before | kept))
    except (OSError, InputError) as error:
        logger.debug("what %s is cannot be kept: %s", name, error)


def explain(name: HubName, error: Exception) -> str:
    """Return why the hub does not say what a name is, and what to do."""
    if isinstance(error, GatedRepoError):
        return f"{name} asks for its terms to be accepted; do that on its page, then `hf auth login` or set HF_TOKEN"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{name} is no folder here, and the hub has no such repository, or it is private; check the spelling, or "
            "`hf auth login`"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{name.repository} has no revision {name.revision!r}; name a branch, tag or commit that it has"
    return f"cannot ask the hub for {name} ({reason(error)}); try again, or give the path of a local folder"


def reason(error: Exception) -> str:
    """Return an error of huggingface_hub, briefly."""
    if isinstance(error, HfHubHTTPError):
        return f"HTTP status {error.response.status_code}"
    return f"{type(error).__name__}: {brief(error, 120)}"
