"""How far each of quoit's figures is from what this machine could do at best: see `quoit.tuning.roofline`.

Operations and bytes are counted on the batches that quoit makes of a workload, shared prefixes once.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from bench.side_by_side.systems import SYSTEMS
from bench.side_by_side.workloads import RERANK_QUERY, Workload
from quoit.artifact import Artifact, EmbeddingContract, Precision
from quoit.engine.limits import cpu_limits
from quoit.engine.planner import plan_batches
from quoit.text.prompts import document_prompt, query_prompt, render_pairs, rerank_prompt
from quoit.text.tokenizer import TextTokenizer
from quoit.tuning.roofline import Ceilings, Work, count, least_seconds

PRECISIONS: dict[str, Precision] = {
    system.name: system.settings["precision"] for system in SYSTEMS if system.adapter == "quoit_runtime"
}


def works(artifact: Artifact, workload: Workload) -> Work:
    """What a workload needs in all, its prompt's keys and values being kept."""
    manifest = artifact.manifest
    tokenizer = TextTokenizer.load(artifact.path(manifest.tokenizer), manifest)
    limits = cpu_limits(manifest.task, manifest.max_tokens)
    prompt, texts = rendered(artifact, workload)
    rows, prefix = tokenizer.encode(texts).ids, tokenizer.beginning(prompt)
    calls: Sequence[list[Any]] = [[row] for row in rows] if workload.apart else [rows]
    found = [count(manifest.costs, plan_batches(call, limits, prefix)) for call in calls]
    return Work(*(sum(getattr(each, name) for each in found) for name in ("linear", "attention", "weights")))


def rendered(artifact: Artifact, workload: Workload) -> tuple[str, list[str]]:
    """What stands before the texts, and the texts behind it."""
    contract = artifact.manifest.contract
    if isinstance(contract, EmbeddingContract):
        query = workload.kind == "query"
        prompt = query_prompt(contract.prompts, None) if query else document_prompt(contract.prompts)
        return prompt.text, list(prompt.render(workload.texts))
    pairs = [(RERANK_QUERY, text) for text in workload.texts]
    prompt = rerank_prompt(contract.instruction, "\n")
    return prompt.text, list(render_pairs(pairs, contract.instruction, "\n"))


def add_fractions(speed: dict[str, Any], work: Work, ceilings: dict[str, float]) -> None:
    """Adds to each of quoit's figures of a workload the least seconds and the fraction of the limit.

    Args:
        speed: figures by system, as `bench.side_by_side.summary.compare` makes them; changed.
        work: what the workload needs.
        ceilings: of this machine, on as many threads.
    """
    found = msgspec.convert(ceilings, Ceilings)
    for name in speed.keys() & PRECISIONS.keys():
        least = least_seconds(work, found, PRECISIONS[name])
        speed[name]["limit"] = {"seconds": least, "fraction": round(least / speed[name]["seconds"], 4)}
