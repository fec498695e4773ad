"""Find quoit's native kernels: a library of custom operators, which the build compiles beside this module.

Where the kernels run, a variant's graph with their operators takes the place of the one that is onnxruntime's alone.
Where they do not, there is a reason, which `quoit doctor` shows. The sources are in `runtime/kernels`.
"""

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from quoit.artifact import GraphName
from quoit.errors import ProviderError

FOLDER = Path(__file__).parent
LIBRARIES = ("libquoit_kernels.so", "libquoit_kernels.dylib", "quoit_kernels.dll")
"""File names of the library on Linux, macOS and Windows."""
REASON = "quoit_kernels.txt"
"""Name of the file in which the build says why there is no library."""
SWITCH = "QUOIT_KERNELS"
"""Environment variable: 0 switches the kernels off; a name of INSTRUCTIONS asks for that set, if the CPU has it."""
OFF = "0"
INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "avx2", "neon")


@dataclass(frozen=True)
class Kernels:
    """The native kernels of this process, or the reason why there are none.

    Attributes:
        library: path of the library; None if the kernels do not run here.
        instructions: the instruction set that they use, one of INSTRUCTIONS; empty without kernels.
        products: True if integer products are kernels too, and not only attention.
        reason: why they run, or do not.
        step: what to do where they do not.
    """

    library: Path | None
    instructions: str
    products: bool
    reason: str
    step: str = "leave kernels=True out"

    @property
    def graphs(self) -> tuple[GraphName, ...]:
        """Names of the graphs that the kernels run, the preferred one first."""
        if self.library is None:
            return ()
        return ("native", "native_attention") if self.products else ("native_attention",)


SWITCHED_OFF = Kernels(
    None, "", products=False, reason=f"{SWITCH}=0 switches them off", step="set it to 1, or leave kernels=True out"
)


def absent(reason: str) -> Kernels:
    """Return that there are no kernels, for a reason."""
    return Kernels(None, "", products=False, reason=reason)


def find_kernels(asked: bool | None = None) -> Kernels:
    """Return the kernels that run in this process.

    Args:
        asked: False to leave them out, True to refuse to run without them, None to use them where they run.

    Raises:
        ProviderError: they were asked for, and do not run here.
    """
    if asked is False:
        return absent("kernels=False switches them off")
    found = SWITCHED_OFF if os.environ.get(SWITCH) == OFF else _load()
    if asked and found.library is None:
        raise ProviderError(f"native kernels were asked for, and do not run here: {found.reason}; {found.step}")
    return found


@cache
def _load() -> Kernels:
    """Load the library, and ask it what this CPU runs."""
    for name in LIBRARIES:
        file = FOLDER / name
        if file.is_file():
            return _ask(file)
    reason = FOLDER / REASON
    if reason.is_file():
        return absent(f"this installation has none: {reason.read_text(encoding='utf-8').strip()}")
    return absent("this installation was built without them")


def _ask(file: Path) -> Kernels:
    try:
        library = ctypes.CDLL(str(file))
    except OSError as error:
        return absent(f"their library cannot be loaded ({error})")
    library.quoit_kernels.restype = ctypes.c_char_p
    instructions = library.quoit_kernels().decode()
    if not instructions:
        return absent("they need AVX2 with FMA, or an arm64 CPU")
    if library.quoit_products():
        return Kernels(file, instructions, products=True, reason=f"attention and integer products with {instructions}")
    return Kernels(
        file, instructions, products=False, reason=f"attention with {instructions}; products are onnxruntime's here"
    )
