"""Fetch an artifact's manifest, tokenizer and one variant into the cache, and check what came."""

from pathlib import Path

from huggingface_hub import hf_hub_download

from quoit.artifact import MANIFEST, MAX_MANIFEST_BYTES, Artifact, FileRecord, Precision, read_artifact
from quoit.errors import ArtifactError
from quoit.hub.folders import hub_folder
from quoit.hub.lookup import Found, reason
from quoit.hub.names import HubName
from quoit.ort.providers import ProviderRequest, choose


def download(name: HubName, found: Found, precision: Precision | None, provider: ProviderRequest) -> Artifact:
    """Return an artifact of the hub with all that these options run; only what is not in the cache is fetched.

    A connection that breaks is taken up where it broke; whole files stay if the run is ended.

    Raises:
        ArtifactError: a file cannot be fetched, or is not what the manifest says.
        InputError: the provider or precision is unknown.
        ProviderError: onnxruntime or the provider asked for cannot run here.
    """
    artifact = fetch_manifest(name, found)
    choice = choose(artifact, provider, precision)
    for record in (artifact.manifest.tokenizer, *artifact.variant(choice.precision).files):
        _complete(artifact, record, name, found)
    return artifact


def fetch_manifest(name: HubName, found: Found) -> Artifact:
    """Return an artifact of the hub, whose other files need not be here.

    Raises:
        ArtifactError: the manifest cannot be fetched, or is damaged.
    """
    _check_size(name, found, MANIFEST, MAX_MANIFEST_BYTES)
    return read_artifact(_fetch(name, found, MANIFEST).parent)


def _complete(artifact: Artifact, record: FileRecord, name: HubName, found: Found) -> None:
    """Fetch a file of an artifact, if it is not there; one that is not what the manifest says is removed again."""
    place = artifact.place(record)
    if place.exists():
        return
    _check_size(name, found, record.path, record.bytes)
    fetched = _fetch(name, found, record.path)
    try:
        artifact.verify(record)
    except ArtifactError as error:
        fetched.resolve().unlink(missing_ok=True)
        fetched.unlink(missing_ok=True)
        raise ArtifactError(
            f"{record.path} of {name} is not what its {MANIFEST} says, and was removed ({error}); try again, and tell "
            "its owner if that does not help"
        ) from error


def _fetch(name: HubName, found: Found, path: str) -> Path:
    try:
        return Path(
            hf_hub_download(name.repository, path, revision=found.commit, cache_dir=hub_folder(), library_name="quoit")
        )
    except Exception as error:  # the errors of the HTTP library below depend on its version
        raise ArtifactError(
            f"cannot fetch {path} of {name} ({reason(error)}); the same command goes on with what is missing"
        ) from error


def _check_size(name: HubName, found: Found, path: str, most: int) -> None:
    """Refuse a file that is larger than it should be, before it is fetched."""
    size = found.sizes.get(path, 0)
    if size > most:
        raise ArtifactError(f"{path} of {name} has {size:,} bytes, {most:,} at most expected; tell its owner")
