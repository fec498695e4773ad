"""Import onnxruntime, for this package only; other packages open sessions with `quoit.ort.sessions`."""

import os
from typing import Any

from quoit.errors import ProviderError


def onnxruntime() -> Any:
    """Return the onnxruntime module, imported on first use.

    Raises:
        ProviderError: onnxruntime cannot be imported.
    """
    # onnxruntime 1.32 reads this variable once, at import. Without it, onnxruntime writes a device id and a database
    # into the user's cache folder, starts an uploader, and prints a warning if it cannot write. A value that the user
    # set is kept.
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
