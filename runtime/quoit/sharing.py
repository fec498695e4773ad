"""Keep one loaded model a process, for frameworks that make the same object many times."""

from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

from quoit.artifact import Artifact
from quoit.artifact.manifest import encode_manifest
from quoit.embedder import Embedder
from quoit.fingerprint import digest
from quoit.hub.opening import open_model
from quoit.reranker import Reranker

_models: WeakValueDictionary[str, Embedder | Reranker] = WeakValueDictionary()
_loading: dict[str, Lock] = {}
_lock = Lock()


def shared(model: str | Path | Artifact, **options: Any) -> Embedder | Reranker:
    """Return a loaded model, the same one for the same artifact and options while anybody holds it.

    Threads that ask for a model that is being loaded wait for it. What is shared must not be closed: it is released
    when nobody holds it any more.

    Args:
        model: the artifact's folder, a hub id, or an open artifact.
        **options: options of `Embedder`, or of `Reranker` for a rerank artifact.

    Returns:
        An `Embedder`, or a `Reranker` for a rerank artifact.

    Raises:
        Whatever these classes raise.
    """
    artifact = open_model(model, options.get("precision"), options.get("provider", "auto"))
    kind = Reranker if artifact.manifest.task == "rerank" else Embedder
    values = {name: str(value) for name, value in sorted(options.items())}
    key = digest(str(artifact.folder.resolve()), encode_manifest(artifact.manifest).decode(), values)
    with _lock:
        loading = _loading.setdefault(key, Lock())
    with loading:
        found = _models.get(key)
        if found is None:
            found = _models[key] = kind(artifact, **options)
    return found
