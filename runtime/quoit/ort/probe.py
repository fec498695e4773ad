"""Test how this CPU sums products of 8-bit integers, and choose the graph that suits it."""

import base64
from functools import cache

import numpy as np

from quoit.artifact import Artifact, Graph, GraphName, ProviderName, Variant
from quoit.errors import ArtifactError
from quoit.ort.kernels import Kernels
from quoit.ort.providers import Choice
from quoit.ort.sessions import EXACT_INT8, open_session

INT8_PROBE = base64.b64decode(
    "CAo6eAouCgFhCgFiEgF5GhRub2RlX01hdE11bEludGVnZXJfMCINTWF0TXVsSW50ZWdlchIBZ1oVCgFhEhAKDggCEgoKAxIBTQoDEgFLWhUK"
    "AWISEAoOCAMSCgoDEgFLCgMSAU5iFQoBeRIQCg4IBhIKCgMSAU0KAxIBTkIECgAQFA=="
)
"""Serialized ONNX model of one node, y = MatMulInteger(a uint8 [M, K], b int8 [K, N])."""


@cache
def int8_is_exact() -> bool:
    """Return whether this CPU sums products of uint8 and int8 without saturation.

    x86 without VNNI adds pairs of products in 16 bits, where the largest pair, 2 * 255 * 127, saturates. The test
    multiplies the largest values, so it needs no list of processors.
    """
    session = open_session(INT8_PROBE)
    rows, inner, columns = 16, 64, 16
    left, right = np.full((rows, inner), 255, np.uint8), np.full((inner, columns), 127, np.int8)
    results = [session.run(None, {"a": some, "b": right})[0] for some in (left, left[:1])]
    return all(bool((result == inner * 255 * 127).all()) for result in results)


def exact_int8() -> dict[str, str]:
    """Return the session configuration with which this CPU sums integer products exactly; empty if it always does."""
    return {} if int8_is_exact() else dict(EXACT_INT8)


def choose_graph(artifact: Artifact, choice: Choice, kernels: Kernels) -> tuple[GraphName, Graph]:
    """Return the name and the graph that runs on this machine.

    Args:
        artifact: the artifact.
        choice: the provider and the precision.
        kernels: the native kernels that may run.

    Raises:
        ArtifactError: the variant has no graph for the provider.
    """
    variant = artifact.variant(choice.precision)
    name = graph_name(variant, choice.provider, kernels)
    graph = variant.graph(name)
    if graph is None:
        raise ArtifactError(
            f"the {choice.precision} variant of {artifact.folder} has no {name} graph, which provider "
            f"{choice.provider!r} runs; export the artifact again"
        )
    return name, graph


def graph_name(variant: Variant, provider: ProviderName, kernels: Kernels) -> GraphName:
    """Return the name of the variant's graph that a provider runs on this machine."""
    if provider != "cpu":
        return provider
    native = [name for name in kernels.graphs if variant.graph(name) is not None]
    if native[:1] == ["native"]:
        return "native"
    # Any other graph leaves integer products to onnxruntime.
    if variant.graph("saturating") is not None and not int8_is_exact():
        return "saturating"
    return native[0] if native else "cpu"
