"""Find a checkpoint: a local folder or a hub snapshot."""

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from quoit.artifact import MANIFEST, is_file
from quoit.hub.names import PATH_BEGINS, HubName, hub_name, read_hub_name
from quoit_export.errors import CheckpointError

HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "merges.txt")


def locate(name: str, revision: str | None) -> tuple[Path, str | None]:
    """Return the folder of a checkpoint and the commit of its hub repository, None for a local folder.

    Args:
        name: a folder, or a hub id, as `ORG/NAME` or `ORG/NAME@REVISION`.
        revision: a branch, tag or commit, if the name has none.

    Raises:
        CheckpointError: there is no such folder or repository, a local folder is given a revision, or the folder is an
            artifact.
    """
    folder = Path(name)
    if folder.is_dir():
        if revision is not None:
            raise CheckpointError(f"{name} is a local folder, which has no revision {revision!r}; leave it out")
    else:
        found = _check_hub_id(name)
        if None not in (found.revision, revision) and found.revision != revision:
            raise CheckpointError(f"{name} and --revision {revision} name two revisions; give one of them")
        folder = _fetch(found.repository, found.revision or revision)
        revision = folder.name
    if is_file(folder / MANIFEST):
        raise CheckpointError(
            f"{name} is an artifact already, made by quoit-export; run it with `quoit info {name}`, or export the "
            "checkpoint that it was made from"
        )
    return folder, revision


def _check_hub_id(name: str) -> HubName:
    """Return a name that is a hub id; see `quoit.hub.names.hub_name` for what is read as a path.

    Raises:
        CheckpointError: it is none.
    """
    found = hub_name(name)
    if found is not None:
        return found
    path, reason = Path(name), ""
    if read_hub_name(name) and not name.startswith(PATH_BEGINS) and not is_file(path):
        raise CheckpointError(
            f"{name} is no folder, and is not looked up on the hub because the folder {path.parent} exists here; "
            "correct the path, or run the command in another folder"
        )
    if is_file(path):
        reason = " (it is a file; name the folder that it lies in)"
    raise CheckpointError(
        f"{name} is no folder, and no hub id like Qwen/Qwen3-Embedding-0.6B{reason}; check the spelling"
    )


def _fetch(name: str, revision: str | None) -> Path:
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"cannot fetch {name} from the hub ({type(error).__name__}: {reason}); check the id and the "
            "network, or give the path of a local folder"
        ) from error
