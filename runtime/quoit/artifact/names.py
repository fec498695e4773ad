"""The words and number ranges that the records of an artifact use."""

from typing import Annotated, Literal

import msgspec

ProviderName = Literal["cpu", "cuda"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "int4"]
Task = Literal["embedding", "rerank"]
Measure = Literal["cosine", "agreement", "spearman", "top10", "ranking"]
GraphName = Literal["cpu", "cuda", "emulated", "saturating"]
"""The graphs of a variant: for CPUs, for CUDA, CUDA's arithmetic on a CPU, and for CPUs whose int8 sums saturate."""
LayoutName = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]{0,63}$")]
"""How a graph takes its tokens: the name of a module in `quoit.engine.layouts`, such as `packed` or `padded`."""
Pooling = Literal["last"]
"""Which state of a text is its answer: the last token's."""

TokenId = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
