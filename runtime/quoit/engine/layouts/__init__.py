"""Define layouts: a layout turns a planned batch into a graph's inputs.

Each layout is one module here with a constant `LAYOUT`, and is found by the module's name. An artifact names the layout
of each of its graphs. So a new layout needs a new module here and no other change.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from numpy.typing import NDArray

from quoit.engine.planner import Batch
from quoit.errors import ArtifactError, shown
from quoit.ort.graph_inputs import InputContract, Inputs


@dataclass(frozen=True)
class PrefixCaching:
    """Functions to get the keys and values of a prefix from a graph, and to feed them to later runs.

    Attributes:
        request: function that makes the inputs of a run that computes only a prefix and returns its keys and values.
        past: function that turns the outputs of such a run, by the graph's names, into inputs of later runs.
    """

    request: Callable[[Batch], Inputs]
    past: Callable[[Mapping[str, NDArray[Any]]], Inputs]


@dataclass(frozen=True)
class Layout:
    """The inputs that a kind of graph takes, and the functions that make them.

    Attributes:
        contract: the inputs of its graphs.
        make_inputs: function that makes the inputs of a batch.
        prefix_caching: functions to reuse a prefix; None if its graphs cannot.
    """

    contract: InputContract
    make_inputs: Callable[[Batch], Inputs]
    prefix_caching: PrefixCaching | None = None


def find_layout(name: str) -> Layout:
    """Return the layout with this name.

    Raises:
        ArtifactError: this version has no such layout.
    """
    names = sorted(module.name for module in iter_modules(__path__))
    if name not in names:
        raise ArtifactError(
            f"the layout {shown(name)} is unknown; this version has {', '.join(names)}: upgrade quoit, or export the "
            "artifact again"
        )
    layout: Layout = import_module(f"{__name__}.{name}").LAYOUT
    return layout
