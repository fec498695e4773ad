"""Define the words and number ranges that the records of an artifact use."""

from typing import Annotated, Literal

import msgspec

ProviderName = Literal["cpu", "cuda"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "int4"]
Task = Literal["embedding", "rerank"]
Measure = Literal["cosine", "agreement", "spearman", "centred", "top10", "ranking"]
GraphName = Literal["cpu", "cuda", "emulated", "saturating", "native", "native_attention"]
"""Names of a variant's graphs: for CPUs, CUDA, CUDA's arithmetic on a CPU, CPUs whose int8 sums saturate, and CPUs with
quoit's kernels, for integer products and attention or for attention alone."""
NATIVE_GRAPHS: tuple[GraphName, ...] = ("native", "native_attention")
"""Names of the graphs with quoit's kernels."""
LayoutName = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]{0,63}$")]
"""Name of a graph's layout, which is a module in `quoit.engine.layouts`, such as `packed` or `padded`."""
Pooling = Literal["last"]
"""Name of the token whose state is the answer to a text: the last one."""

TokenId = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
