"""Open the artifact that a caller names: a folder, or a model on the hub."""

from pathlib import Path

from quoit.artifact import Artifact, Precision, open_artifact
from quoit.errors import ArtifactError
from quoit.hub.names import HubName, hub_name
from quoit.ort.providers import ProviderRequest, check_request, first_choice


def open_model(
    model: str | Path | Artifact, precision: Precision | None = None, provider: ProviderRequest = "auto"
) -> Artifact:
    """Return the artifact of a folder or of a hub id; an `Artifact` is returned unchanged.

    What is not there yet is fetched: the manifest, the tokenizer and the variant that these options run. A checkpoint
    is exported once.

    Args:
        model: a folder; or `ORG/NAME`, `ORG/NAME@REVISION`, which a `Path` never is.
        precision: the precision that will run; None for the fastest.
        provider: the provider that will run it.

    Raises:
        ArtifactError: there is no such artifact, or it cannot be fetched or made.
        InputError: the provider or precision is unknown.
        ProviderError: onnxruntime or the provider asked for cannot run here.
    """
    name = hub_name(model) if isinstance(model, str) else None
    return open_artifact(model) if name is None else fetch(name, precision, provider)


def open_manifest(model: str | Path | Artifact) -> Artifact:
    """Return an artifact like `open_model`, without fetching more than its manifest, and without exporting.

    Raises:
        ArtifactError: there is no such artifact, or it is a checkpoint that was not exported here.
    """
    name = hub_name(model) if isinstance(model, str) else None
    if name is None:
        return open_artifact(model)
    need_hub(name)
    from quoit.hub.download import fetch_manifest
    from quoit.hub.exports import kept
    from quoit.hub.lookup import look_up

    found = look_up(name)
    return fetch_manifest(name, found) if found.holds_artifact else kept(name, found)


def fetch(name: HubName, precision: Precision | None, provider: ProviderRequest) -> Artifact:
    """Return the artifact of a hub id; see `open_model`."""
    check_request(provider, precision)
    need_hub(name)
    from quoit.hub.download import download
    from quoit.hub.exports import exported
    from quoit.hub.lookup import look_up

    found = look_up(name)
    if found.holds_artifact:
        return download(name, found, precision, provider)
    return exported(name, found, precision or first_choice(provider))


def need_hub(name: HubName) -> None:
    """Refuse to go on without huggingface_hub.

    Raises:
        ArtifactError: it is not installed.
    """
    try:
        import huggingface_hub  # noqa: F401  the modules below need it
    except ModuleNotFoundError as error:
        raise ArtifactError(
            f"{name} is no folder here, and {error.name} is not installed, which would look it up on the hub; "
            "`pip install 'quoit[hub]'`, or correct the path"
        ) from error
