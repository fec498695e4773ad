"""Layouts: how a planned batch becomes a graph's inputs. One module each; its `LAYOUT` is found by the module's name.

An artifact names the layout of each graph, so that another layout is another module here and nothing else.
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
    """How a graph gives the keys and values of a prefix, and takes them again.

    Attributes:
        request: the inputs of a run that computes a prefix alone and gives its keys and values.
        past: what such a run gave, by the graph's output names, as inputs of later runs.
    """

    request: Callable[[Batch], Inputs]
    past: Callable[[Mapping[str, NDArray[Any]]], Inputs]


@dataclass(frozen=True)
class Layout:
    """A layout.

    Attributes:
        contract: the inputs of its graphs.
        make_inputs: the inputs of a batch.
        prefix_caching: how its graphs reuse a prefix; None where they cannot.
    """

    contract: InputContract
    make_inputs: Callable[[Batch], Inputs]
    prefix_caching: PrefixCaching | None = None


def find_layout(name: str) -> Layout:
    """The layout of a name.

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
