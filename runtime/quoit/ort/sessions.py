"""Open onnxruntime sessions of any model.

Measurements and export use them to run graphs that belong to no artifact. A session is onnxruntime's own
`InferenceSession`. No other package of quoit imports onnxruntime.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from quoit.artifact import ProviderName
from quoit.ort.module import onnxruntime

ONNX_NAMES: dict[ProviderName, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""Names that onnxruntime gives to the providers."""
EXACT_INT8 = {"session.x64quantprecision": "1"}
"""Session configuration with which CPUs whose sums of int8 products would saturate (x86 without VNNI) multiply unsigned
weights, more slowly and exactly (`avx2_weight_s8_to_u8.h` in onnxruntime). Others must not have it: some with VNNI
replace the weights too, for nothing. `quoit.ort.probe.exact_int8` decides."""
FAULTY_OPTIMIZERS = ["QDQS8ToU8Transformer"]
"""Optimizers that EXACT_INT8 switches on too, and that fail: this one gives a DequantizeLinear with an axis a scalar as
zero point, which its kernel refuses (onnxruntime 1.32)."""
ERRORS_ONLY = 3
"""Lowest severity that onnxruntime logs: errors."""


def open_session(
    model: bytes | str | Path,
    *,
    provider: ProviderName = "cpu",
    threads: int | None = None,
    config: Mapping[str, str] | None = None,
    provider_options: Mapping[str, str] | None = None,
    initializers: Mapping[str, NDArray[Any]] | None = None,
    profile_prefix: str | None = None,
    kernels: Path | None = None,
) -> Any:
    """Open an `InferenceSession` that runs on one provider and never changes it.

    Args:
        model: a serialized model, or the path of its file.
        provider: the provider that runs the model.
        threads: number of intra-op threads; None for onnxruntime's default.
        config: session configuration entries; with EXACT_INT8, each integer product needs a weight of its own.
        provider_options: options of the provider.
        initializers: tensors that the model declares as external, by name.
        profile_prefix: beginning of the name of a profile file to write; None for no profile.
        kernels: the library of quoit's own operators, for a graph that has them.

    Raises:
        ProviderError: onnxruntime cannot be imported.
    """
    module = onnxruntime()
    options = module.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    if threads is not None:
        options.intra_op_num_threads = threads
    entries = dict(config or {})
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    if initializers:
        options.add_external_initializers([*initializers], [to_value(array) for array in initializers.values()])
    if kernels is not None:
        options.register_custom_ops_library(str(kernels))
    source = model if isinstance(model, bytes) else str(model)
    providers = [(ONNX_NAMES[provider], dict(provider_options or {}))]
    disabled = FAULTY_OPTIMIZERS if entries.items() >= EXACT_INT8.items() else None
    session = module.InferenceSession(source, options, providers=providers, disabled_optimizers=disabled)
    session.disable_fallback()
    return session


def to_value(array: NDArray[Any], device: str = "cpu") -> Any:
    """Return an array as an `OrtValue` on a device; on the CPU, it shares the array's memory."""
    return onnxruntime().OrtValue.ortvalue_from_numpy(array, device)
