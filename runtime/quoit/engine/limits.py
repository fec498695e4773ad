"""Compute the default limits of one batch: on a CPU from the task, on CUDA from the free memory."""

from collections.abc import Sequence
from dataclasses import replace

from quoit.artifact import Costs, Manifest, Task
from quoit.engine.planner import Limits, PaddingLimit, Row
from quoit.ort.cuda import free_bytes, stream_tokens
from quoit.ort.providers import Choice

TILED_FROM = 385
"""Minimum number of tokens of a row with tiled attention on a CPU. Near 350 tokens, tiled attention becomes faster than
the full score matrix; see bench/log/."""
CPU_LIMITS = Limits(stream_tokens=512, rectangle_tokens=2048, tiled_from=TILED_FROM)
"""Default limits on a CPU. Larger batches gain a few percent and cost memory; see bench/log/."""
CPU_RERANK_LIMITS = replace(CPU_LIMITS, stream_tokens=1024, rectangle_tokens=4096)
"""Default limits for reranking on a CPU. Its rows all begin alike and gain from larger batches, since the shared part
is computed once in each batch."""
CUDA_PADDING = PaddingLimit(max_share=0.1, free_positions=4096)
"""Default limit of padding on CUDA. One more batch costs about as much as 600 positions, a tenth of a batch that is a
little larger than `free_positions`."""


def default_limits(choice: Choice, manifest: Manifest) -> Limits:
    """Return the default limits on a provider; on CUDA, they follow from the free memory with the model loaded."""
    if choice.provider == "cpu":
        return cpu_limits(manifest.task, manifest.max_tokens)
    return cuda_limits(manifest.costs, free_bytes())


def cuda_limits(costs: Costs, free: int) -> Limits:
    """Return the limits of one batch on CUDA with `free` bytes of device memory.

    CUDA's attention needs no tiles. Its graph has padding in every layer, and computes a shared prefix again in every
    row that has it.
    """
    tokens = stream_tokens(costs, free)
    return Limits(tokens, tokens, share_prefixes=False, padding=CUDA_PADDING)


def cpu_limits(task: Task, max_tokens: int) -> Limits:
    """Return the limits of one batch on a CPU, for a task and for a model with at most `max_tokens` tokens in a row."""
    return replace(CPU_LIMITS if task == "embedding" else CPU_RERANK_LIMITS, max_positions=max_tokens)


def row_limits(rows: Sequence[Row]) -> Limits:
    """Return CPU limits for rows of a graph whose max_tokens is unknown; the longest row takes its place."""
    return replace(CPU_LIMITS, max_positions=max(map(len, rows), default=0))


def with_budget(limits: Limits, tokens: int) -> Limits:
    """Return limits with `tokens` as the budget of distinct tokens, and a rectangle in proportion."""
    ratio = limits.rectangle_tokens // limits.stream_tokens
    return replace(limits, stream_tokens=tokens, rectangle_tokens=ratio * tokens)
