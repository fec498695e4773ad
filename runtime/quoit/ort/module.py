"""The onnxruntime module, for this package alone; others open sessions with `quoit.ort.sessions`."""

import os
from typing import Any

from quoit.errors import ProviderError


def onnxruntime() -> Any:
    """The onnxruntime module, imported on first use.

    Raises:
        ProviderError: it is not installed.
    """
    # onnxruntime 1.32 reads this once, when it is imported. Without it, it writes a device id and a database into the
    # user's cache folder, starts an uploader, and prints a warning where it cannot write. A value that is set stays.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime as module
    except ImportError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise ProviderError(
            f"onnxruntime cannot be imported ({error}); install it with `pip install 'quoit[cpu]'` or "
            "`pip install 'quoit[cuda]'`"
        ) from error
    return module
