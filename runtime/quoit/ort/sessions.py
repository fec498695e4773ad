"""Opens sessions of any model, for those who run graphs that are no artifact's: measurements, and export.

A session is onnxruntime's own `InferenceSession`; the module stays within this package.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from quoit.artifact import ProviderName
from quoit.ort.module import onnxruntime

ONNX_NAMES: dict[ProviderName, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""The providers as onnxruntime names them."""
ERRORS_ONLY = 3
"""The severity from which onnxruntime logs."""


def open_session(
    model: bytes | str | Path,
    *,
    provider: ProviderName = "cpu",
    threads: int | None = None,
    config: Mapping[str, str] | None = None,
    provider_options: Mapping[str, str] | None = None,
    initializers: Mapping[str, NDArray[Any]] | None = None,
    profile_prefix: str | None = None,
) -> Any:
    """An `InferenceSession` that runs on one provider and never changes it.

    Args:
        model: a serialized model, or its file.
        provider: what runs it.
        threads: intra-op threads; onnxruntime's default where None.
        config: session configuration entries.
        provider_options: options of the provider.
        initializers: tensors that the model calls external, by name.
        profile_prefix: write a profile to a file of a name that begins so.

    Raises:
        ProviderError: onnxruntime is not installed.
    """
    module = onnxruntime()
    options = module.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    if threads is not None:
        options.intra_op_num_threads = threads
    for key, value in (config or {}).items():
        options.add_session_config_entry(key, value)
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    if initializers:
        options.add_external_initializers([*initializers], [to_value(array) for array in initializers.values()])
    source = model if isinstance(model, bytes) else str(model)
    providers = [(ONNX_NAMES[provider], dict(provider_options or {}))]
    session = module.InferenceSession(source, options, providers=providers)
    session.disable_fallback()
    return session


def to_value(array: NDArray[Any], device: str = "cpu") -> Any:
    """An `OrtValue` on a device."""
    return onnxruntime().OrtValue.ortvalue_from_numpy(array, device)
