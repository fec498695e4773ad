"""The tables of the studies, from their results."""

from statistics import mean, median
from typing import Any

from bench.markdown import row, titled


def rerank_table(result: dict[str, Any]) -> list[str]:
    """What sharing the query gains, and how close int8 scores are."""
    sharing = [result["sharing"][name] for name in ("fp32", "int8")]
    apart, together = ([f"{each['seconds'][how]:.1f} s" for each in sharing] for how in ("unshared", "shared"))
    ratios = [f"{each['speedup']:.2f} ×" for each in sharing]
    (rank, least), (agreement, furthest) = (result["parity"]["int8"][name] for name in ("spearman", "agreement"))
    return [
        "| 100 documents, one query | fp32 | int8 |",
        "|---|---|---|",
        f"| every pair on its own | {' | '.join(apart)} |",
        f"| what they begin with computed once a batch | {' | '.join(together)} |",
        f"| times faster, same bits | {' | '.join(ratios)} |",
        f"| rank correlation to fp32: mean of queries, least | – | {rank:.3f}, {least:.3f} |",
        f"| P(yes) from fp32's: mean of pairs, most | – | {1 - agreement:.3f}, {1 - furthest:.3f} |",
    ]


SET_TITLES = {
    "debian": "package summary → description",
    "docstrings": "docstring's first line → the rest",
    "wordnet": "words → gloss",
}


def retrieval_table(sets: dict[str, Any]) -> list[str]:
    """nDCG@10, recall@10 and rank correlation to the teacher's similarities, of every system on every held-out set."""
    titles = [f"{title} ({sets[name]['documents']:,})" for name, title in SET_TITLES.items()]
    lines = titled(["nDCG@10 · recall@10 · Spearman", *titles])
    for system in sets["debian"]["systems"]:
        found = [sets[name]["systems"][system] for name in SET_TITLES]
        cells = [f"{each['nDCG@10']:.3f} · {each['R@10']:.3f} · {each['spearman_to_teacher']:.2f}" for each in found]
        lines.append(f"| {system} | {' | '.join(cells)} |")
    return lines


def ratio_table(sets: dict[str, Any]) -> list[str]:
    """The same as ratios: to the teacher, and of shorter and cheaper vectors to float32's."""
    lines = titled(["nDCG@10 ÷", *SET_TITLES.values()])
    whole, *prefixes = (system for system in sets["debian"]["systems"] if system.startswith("fp32, "))
    narrow = (system for system in sets["debian"]["systems"] if system.startswith(("fp16, ", "int8, ")))
    pairs = [(whole, "all-MiniLM-L6-v2 (teacher)"), (whole, "BM25")]
    pairs += [(system, whole) for system in (*prefixes, *narrow)]
    for system, other in pairs:
        ratios = [
            sets[name]["systems"][system]["nDCG@10"] / sets[name]["systems"][other]["nDCG@10"] for name in SET_TITLES
        ]
        lines.append(f"| {system} ÷ {other} | {' | '.join(f'{ratio:.3f}' for ratio in ratios)} |")
    return lines


def judged_table(sets: dict[str, Any]) -> list[str]:
    """nDCG@10 of the embedding's best 50 before and after the reranker."""
    queries = sets["debian"]["rerank"]["queries"]
    lines = titled([f"nDCG@10, {queries} queries, best 50", *SET_TITLES.values()])
    titles = {"embedding": "the embedding's order"} | {name: f"reranked, {name}" for name in ("fp32", "int8")}
    for system, title in titles.items():
        found = [sets[name]["rerank"][system]["nDCG@10"] for name in SET_TITLES]
        lines.append(f"| {title} | {' | '.join(f'{value:.3f}' for value in found)} |")
    return lines


def drift_table(sets: dict[str, Any]) -> list[str]:
    """Cosines to float32's vectors."""
    lines = titled(["cosine to fp32: mean, 1st percentile, least", *SET_TITLES.values()])
    for precision in ("fp16", "int8"):
        found = [sets[name]["cosine_to_fp32"][precision] for name in SET_TITLES]
        cells = [f"{each['mean']:.5f}, {each['p1']:.5f}, {each['least']:.5f}" for each in found]
        lines.append(f"| {precision} | {' | '.join(cells)} |")
    return lines


def methods_table(result: dict[str, Any]) -> list[str]:
    """What each way of making int8 keeps of the genuine model, and on the worst of the adversaries."""
    genuine, adversaries = result["genuine"], result["adversaries"]
    lines = [
        "| | MB | resident | tokens/s ÷ fp32 | cosine to fp32: mean, least | ten nearest | nDCG@10, mean of sets"
        " | worst adversary: mean, least |",
        f"|{'---|' * 8}",
    ]
    for name, found in genuine.items():
        taken = f"{found['bytes'] / 1e6:.1f} | {found['resident_bytes'] / 1e6:.0f} MB | {found['over_fp32'][1]:.2f}"
        gain = f"{mean(found['nDCG@10'].values()):.4f}"
        if name == "fp32":
            lines.append(f"| {name} | {taken} | | | {gain} | |")
            continue
        each = [adversary[name] for adversary in adversaries.values()]
        worst = {figure: min(one[figure] for one in each) for figure in ("mean", "least")}
        kept = f"{short(found['cosine'])} | {found['top10']:.4f}"
        lines.append(f"| {name} | {taken} | {kept} | {gain} | {short(worst)} |")
    return lines


def adversary_table(result: dict[str, Any]) -> list[str]:
    """The cosines of every way of making int8 on every adversary."""
    names = [name for name in result["genuine"] if name != "fp32"]
    rows = ([adversary, *(short(found[name]) for name in names)] for adversary, found in result["adversaries"].items())
    return [*titled(["cosine: mean, least", *names]), *map(row, rows)]


def cuda_table(result: dict[str, Any]) -> list[str]:
    """Rates on a GPU, of torch with the better number of rows, how long a query takes alone, and device memory."""
    rates, latency, memory = result["throughput"], result["latency_ms"], result["memory_bytes"]
    lines = titled([f"{result['device']}, thousand tokens/s", *rates, "query, ms: p50, p99", "GB"])
    for model, taken in memory.items():
        mine = [model] if model in latency else [system for system in latency if system.startswith(f"{model}, ")]
        best = [max(found[system]["tokens_per_second"] for system in mine) for found in rates.values()]
        query = min((latency[system] for system in mine), key=lambda each: each["p50"])
        cells = [f"{rate / 1e3:.0f}" for rate in best]
        lines.append(
            row([model, *cells, f"{query['p50']:.1f}, {query['p99']:.1f}", f"{taken['after_a_pass'] / 1e9:.1f}"])
        )
    fastest = next(iter(memory))
    rivals = [each["p50"] for system, each in latency.items() if system.startswith("torch")]
    if rivals:
        ratios = [f"{found[fastest]['over_best_torch']:.2f}" for found in rates.values()]
        lines.append(row([f"{fastest} ÷ best torch", *ratios, f"{min(rivals) / latency[fastest]['p50']:.1f}", ""]))
    shares = [f"{found[fastest]['of_ceiling']:.0%}" for found in rates.values()]
    lines.append(row([f"{fastest}, of a product's rate", *shares, "", ""]))
    return lines


def h100_table(brief: dict[str, Any]) -> list[str]:
    """Tokens/s on an H100 beside torch, of the passes after each workload's first, and a query's milliseconds."""
    ours, theirs = "quoit fp16", "torch sdpa bf16, 128 rows"
    workloads, latency = brief["tokens_per_second"], brief["latency_ms"]
    rates = {name: [median(passes[name][1:]) for passes in workloads.values()] for name in (ours, theirs)}
    lines = titled(["thousand tokens/s", *workloads, "query, ms: p50, p99"])
    for name, each in rates.items():
        query = f"{latency[name]['p50']:.1f}, {latency[name]['p99']:.1f}"
        lines.append(row([name, *(f"{rate / 1e3:.0f}" for rate in each), query]))
    ratios = [f"{mine / other:.2f}" for mine, other in zip(rates[ours], rates[theirs], strict=True)]
    return [*lines, row(["ratio", *ratios, f"{latency[theirs]['p50'] / latency[ours]['p50']:.1f}"])]


def short(found: dict[str, float]) -> str:
    """Mean and least."""
    return f"{found['mean']:.4f}, {found['least']:.4f}"


def quality_tables(result: dict[str, Any]) -> list[str]:
    """The model card's tables."""
    makers = (retrieval_table, ratio_table, judged_table, drift_table)
    return [line for make in makers for line in (*make(result["sets"]), "")][:-1]


def second_pass_table(result: dict[str, Any]) -> list[str]:
    """Tokens/s of plain int8, of int8 with second passes relative to it, and what the second passes come to."""
    measured, counted = result["workloads"], result["second_passes"]
    lines = titled(["tokens/s", *measured, "rows of down_proj", "more multiply-adds"])
    titles = {"exported": "as exported", "decoder": "as a trained decoder needs"}
    for suffix, where in (("", "native kernels"), (" on onnxruntime", "onnxruntime alone")):
        rates = [f"{found['tokens_per_second']['plain' + suffix]:,.0f}" for found in measured.values()]
        lines.append(row([f"{where}, no second pass", *rates, "–", "–"]))
        for name, title in titles.items():
            if name in counted:
                ratios = [f"{ratio_of(found, name + suffix, 'plain' + suffix):.2f} ×" for found in measured.values()]
                share = counted[name]["rows"]["down_proj"]
                lines.append(row([title, *ratios, f"{share:.0%}", f"{counted[name]['multiply_adds']:.1%}"]))
    return lines


def ratio_of(found: dict[str, Any], name: str, base: str) -> float:
    """The median of the rounds' ratios of two artifacts' rates."""
    each: dict[str, list[float]] = found["each"]
    return median(ours / theirs for ours, theirs in zip(each[name], each[base], strict=True))


def kernels_table(result: dict[str, Any]) -> list[str]:
    """Tokens/s without native kernels and the ratios with them; quartiles in brackets."""
    lines = titled(["", "onnxruntime, tokens/s", "native kernels", "over onnxruntime with two workers"])
    titles = {"int8": "int8", "fp32": "fp32", "uneven": "int8, uneven activations", "reranker": "int8 reranker"}
    for part, title in titles.items():
        for name, found in result.get(part, {}).items():
            middle, low, high = found["over_onnxruntime"]["native"]
            workers = " – "
            if "onnxruntime two workers" in found["each"]:
                workers = f"{ratio_of(found, 'native', 'onnxruntime two workers'):.2f} ×"
            rate = f"{found['tokens_per_second']['onnxruntime']:,.0f}"
            lines.append(row([f"{title}, {name}", rate, f"{middle:.2f} × ({low:.2f} to {high:.2f})", workers]))
    return lines


def repository_table(result: dict[str, Any]) -> list[str]:
    """How many questions about the repository the first hits answer."""
    lines = titled(["first three hits", "cosine alone", "reranker"])
    for name, title in (("chunks", "documents in chunks of 256 tokens"), ("parts", "paragraphs, blocks of code")):
        cells = [result["ways"][name + suffix] for suffix in ("", ", reranker")]
        lines.append(row([title, *(f"{found['answered']} of {found['questions']}" for found in cells)]))
    return lines
