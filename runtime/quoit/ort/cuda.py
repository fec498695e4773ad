"""Check whether the CUDA provider can run here, say why not, and size a batch to the device's memory.

The libraries that onnxruntime would load are loaded first, so the reason for a failure is the loader's own message.
This module does not run anything on the device, and does not import onnxruntime.
"""

import contextlib
import ctypes
import importlib.metadata
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quoit.artifact import Costs
from quoit.errors import ProviderError, brief

DISTRIBUTIONS = ("onnxruntime-gpu", "onnxruntime")
"""Names of the distributions that contain the module onnxruntime; each overwrites the other's files."""
LIBRARIES = {
    "linux": ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"),
    "win32": ("onnxruntime_providers_shared.dll", "onnxruntime_providers_cuda.dll"),
}
QUERY = "nvidia-smi"
QUERY_SECONDS = 20

MAX_STREAM_TOKENS = 32_768
"""Maximum number of positions in one batch. Twice as many are not faster on an H100 and take twice the memory; see
bench/log/."""
MIN_STREAM_TOKENS = 1_024
SHARE = 0.5
"""Share of the free memory for the values of one batch; the rest is for kernels and for the allocator's reserve."""
HALF_BYTES = 2


def installed() -> list[str]:
    """Return the installed distributions of onnxruntime, such as `onnxruntime-gpu 1.31.1`."""
    found = [name for name in DISTRIBUTIONS if any(importlib.metadata.distributions(name=name))]
    return [f"{name} {importlib.metadata.version(name)}" for name in found]


def explain_absence(available: Sequence[str], distributions: Sequence[str]) -> str:
    """Return why onnxruntime offers no CUDA, and what to do about it.

    Args:
        available: the providers that it offers.
        distributions: the installed distributions, as `installed` returns them.
    """
    if len(distributions) > 1:
        return (
            f"{' and '.join(distributions)} are both installed and overwrite each other's files; "
            "`pip uninstall onnxruntime onnxruntime-gpu`, then `pip install 'quoit[cuda]'`"
        )
    return (
        f"this onnxruntime offers {', '.join(available)}; `pip uninstall onnxruntime` and `pip install 'quoit[cuda]'`"
    )


def prepare(onnxruntime: Any) -> None:
    """Load the CUDA provider's libraries, as onnxruntime will do.

    Raises:
        ProviderError: a library is missing, or there is no driver or device.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the names of libraries that it does not find
        onnxruntime.preload_dlls()
    problems = [*_missing(Path(onnxruntime.__file__).parent / "capi"), *_absent()]
    if problems:
        raise ProviderError(
            f"CUDAExecutionProvider cannot run here: {'; '.join(problems)}; install the driver and "
            "`pip install 'quoit[cuda]'`, or use provider='cpu'"
        )


def _missing(folder: Path) -> list[str]:
    for name in LIBRARIES.get(sys.platform, ()):
        try:
            ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            return [brief(error)]
    return []


def _absent() -> list[str]:
    try:
        free_bytes()
    except ProviderError as error:
        return [str(error)]
    return []


def free_bytes() -> int:
    """Return the free memory of the first device that CUDA sees, in bytes, as the driver's `nvidia-smi` reports it.

    On machines with several kinds of devices, CUDA_DEVICE_ORDER=PCI_BUS_ID makes CUDA number them as the driver does.

    Raises:
        ProviderError: there is no driver, or no such device.
    """
    device = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    command = [QUERY, "-i", device, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_SECONDS, check=True)
        return int(done.stdout.split()[0]) << 20
    except FileNotFoundError as error:
        raise ProviderError(f"no NVIDIA driver, since there is no {QUERY}; install one") from error
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        told = getattr(error, "stdout", None) or error
        raise ProviderError(f"{QUERY} tells of no device {device!r}: {brief(told)}; check the driver") from error


def stream_tokens(costs: Costs, free: int) -> int:
    """Return the maximum number of positions in one batch, padding included, as a multiple of 1,024.

    Args:
        costs: the costs of a batch of the model.
        free: free bytes of device memory, with the weights already loaded.
    """
    budget = int(SHARE * free) // token_bytes(costs)
    tokens = min(max(budget, MIN_STREAM_TOKENS), MAX_STREAM_TOKENS)
    return tokens // MIN_STREAM_TOKENS * MIN_STREAM_TOKENS


def token_bytes(costs: Costs) -> int:
    """Return the maximum bytes of device memory for one position of a batch, at 16 bits for each value."""
    return HALF_BYTES * costs.position_values
