"""What one batch may hold by default: on a CPU by the task, on CUDA by the free memory."""

from collections.abc import Sequence
from dataclasses import replace

from quoit.artifact import Costs, Manifest, Task
from quoit.engine.planner import Limits, PaddingLimit, Row
from quoit.ort.cuda import free_bytes, stream_tokens
from quoit.ort.providers import Choice

TILED_FROM = 385
"""Tokens from which on a row has tiled attention on a CPU. Near 350 tokens it overtakes the full score matrix; see
bench/log/."""
CPU_LIMITS = Limits(stream_tokens=512, rectangle_tokens=2048, tiled_from=TILED_FROM)
"""Larger batches gain a few percent and cost memory; see bench/log/."""
CPU_RERANK_LIMITS = replace(CPU_LIMITS, stream_tokens=1024, rectangle_tokens=4096)
"""Rows that all begin alike gain from larger batches, since what they share is computed once in each."""
CUDA_PADDING = PaddingLimit(max_share=0.1, free_positions=4096)
"""On CUDA one batch more costs about as much as 600 positions, which is a tenth of a batch little larger than these."""


def default_limits(choice: Choice, manifest: Manifest) -> Limits:
    """What one batch may hold on a provider; on CUDA, as much of a loaded model's batch as fits the free memory."""
    if choice.provider == "cpu":
        return cpu_limits(manifest.task, manifest.max_tokens)
    return cuda_limits(manifest.costs, free_bytes())


def cuda_limits(costs: Costs, free: int) -> Limits:
    """What one batch may hold in so many bytes of device memory.

    CUDA's attention needs no tiles. Its graph has padding in every layer, and computes a shared prefix as often as it
    occurs.
    """
    tokens = stream_tokens(costs, free)
    return Limits(tokens, tokens, share_prefixes=False, padding=CUDA_PADDING)


def cpu_limits(task: Task, max_tokens: int) -> Limits:
    """What one batch may hold on a CPU, for a task and a model of so many tokens."""
    return replace(CPU_LIMITS if task == "embedding" else CPU_RERANK_LIMITS, max_positions=max_tokens)


def row_limits(rows: Sequence[Row]) -> Limits:
    """CPU limits for rows of a graph whose max_tokens is unknown; the longest row stands for it."""
    return replace(CPU_LIMITS, max_positions=max(map(len, rows), default=0))


def with_budget(limits: Limits, tokens: int) -> Limits:
    """Limits with another budget of distinct tokens, and a rectangle in proportion."""
    ratio = limits.rectangle_tokens // limits.stream_tokens
    return replace(limits, stream_tokens=tokens, rectangle_tokens=ratio * tokens)
