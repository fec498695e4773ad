"""Refuse a loaded model in a forked child process.

`fork` copies one thread only. onnxruntime's worker threads do not exist in the child, so a run there would wait
forever. Freeing the model there could wait forever too, since the thread that it joins may now belong to a model that
the child loaded. So the child never frees the model.
"""

import ctypes
import os
import weakref
from dataclasses import dataclass, field

from quoit.errors import ProviderError


@dataclass(frozen=True)
class ForkGuard:
    """The process that loaded a model.

    Attributes:
        process: id of the process.
    """

    process: int = field(default_factory=os.getpid)

    def check(self) -> None:
        """Refuse to run in a process other than the one that loaded the model.

        Raises:
            ProviderError: this process is a fork of the one that loaded the model.
        """
        if os.getpid() != self.process:
            raise ProviderError(
                f"the model was loaded in process {self.process}, and this is process {os.getpid()}, a fork of it, "
                "where onnxruntime's threads do not exist; load the model after the fork, or start processes with "
                "multiprocessing's 'spawn'"
            )


def never_free_in_forks(model: object) -> None:
    """Keep a forked child from freeing a model that its parent loaded; nothing changes in the parent."""
    reference = weakref.ref(model)

    def keep() -> None:
        found = reference()
        if found is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(found))

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=keep)
