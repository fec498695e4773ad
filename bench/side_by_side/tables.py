"""The tables of the report, and of the pages that show the side by side."""

from bench.markdown import row, titled
from bench.record import RESULTS
from bench.side_by_side.result import NONE, Result, closeness, cold_memory, mixed, on, throughputs

CHART = RESULTS / "side-by-side" / "front.png"
"""The README's picture."""
FRONT_WORKLOADS = {
    "query": "one query",
    "8x128": "8 texts of 128 tokens",
    "mix of 200": "200 texts, mixed lengths",
}
"""Workloads that the README shows, and what it calls them."""
FRONT_RIVALS = (
    "qwen3-embed int8",
    "OpenVINO int8",
    "optimum int8",
    "fastembed int8",
    "llama.cpp Q8_0",
    "sentence-transformers bf16",
    "sentence-transformers fp32",
    "infinity",
)
"""Rivals that the README shows: each library once in the form that is fastest there, and float32's reference."""


def chart_lines(result: Result) -> list[str]:
    """The README's picture, described for those who do not see it."""
    threads = next(iter(result["speed"]))
    ratios = [
        result["speed"][threads][each][name]["anchor_times_faster"] for each in FRONT_WORKLOADS for name in FRONT_RIVALS
    ]
    times = f"{min(ratios):.2f} to {max(ratios):.1f} times as fast as {len(FRONT_RIVALS)} other systems"
    return [f"![{result['anchor']} is {times}](bench/results/side-by-side/{CHART.name})"]


def front_table(result: Result) -> list[str]:
    """The README's table: paired ratios to quoit's int8, cosine, memory and size; one absolute column."""
    threads = next(iter(result["speed"]))
    speed, anchor = result["speed"][threads], result["anchor"]
    costs = ["cosine: mean, least", "tokens/s, mix", "memory", "installed"]
    lines = titled([f"{anchor} is … as fast as", *FRONT_WORKLOADS.values(), *costs])
    for name in (anchor, *FRONT_RIVALS):
        facts = result["systems"][name]
        memory = cold_memory(facts, threads)
        cells = [
            *(f"{speed[workload][name]['anchor_times_faster']:.2f} ×" for workload in FRONT_WORKLOADS),
            closeness(result, name),
            f"{speed['mix of 200'][name]['tokens_per_second']:,.0f}",
            f"{memory / 1e9:.2f} GB" if memory else NONE,
            f"{facts['installed_bytes'] / 1e6:,.0f} MB",
        ]
        lines.append(row([name, *cells]))
    return lines


def speed_table(result: Result, threads: str) -> list[str]:
    """Tokens per second of every system and workload, and in brackets how many times as fast the anchor was."""
    workloads = throughputs(result, threads)
    names = [name for name in result["systems"] if any(name in figures for figures in workloads.values())]
    lines = titled([f"tokens/s ({result['anchor']} ÷ it)", *workloads, "cosine: mean, least"])
    for name in names:
        cells = []
        for figures in workloads.values():
            each = figures.get(name)
            cells.append(f"{each['tokens_per_second']:,.0f} ({each['anchor_times_faster']:.2f} ×)" if each else NONE)
        lines.append(row([name, *cells, closeness(result, name)]))
    return lines


def latency_table(result: Result, threads: str) -> list[str]:
    """Percentiles of a query's latency."""
    figures = result["speed"][threads].get("query", {})
    lines = titled(["ms", "p50", "p95", "p99", f"{result['anchor']} ÷ it", "calls"])
    for name, each in figures.items():
        times = [f"{value:,.1f}" for value in each["milliseconds"].values()]
        lines.append(row([name, *times, f"{each['anchor_times_faster']:.2f} ×", str(each["calls"])]))
    return lines


def cost_table(result: Result) -> list[str]:
    """Cold start, memory and size on disk."""
    threads = next(iter(result["speed"]))
    lines = titled(["", "first vector", "resident at most, few texts", "after the last run's workloads", "installed"])
    for name, facts in result["systems"].items():
        cold = facts.get("cold", {}).get(threads)
        ran = facts.get("memory", {}).get(f"document, {threads} threads")
        if cold is None and ran is None:
            continue
        starts = f"{sorted(cold['seconds'])[len(cold['seconds']) // 2]:.2f} s" if cold else NONE
        few = f"{cold['memory']['peak'] / 1e9:.2f} GB" if cold else NONE
        all_of_them = f"{ran['peak'] / 1e9:.2f} GB" if ran else NONE
        lines.append(row([name, starts, few, all_of_them, f"{facts['installed_bytes'] / 1e6:,.0f} MB"]))
    return lines


def limit_table(result: Result) -> list[str]:
    """The machine's ceilings, and the fraction that each of quoit's figures reaches."""
    lines = []
    for threads, machine in result["limits"].items():
        ceilings = machine["ceilings"]
        lines.append(
            f"With {on(threads)} this machine reaches {ceilings['int8']:,.0f} int8 GOP/s, "
            f"{ceilings['fp32']:,.0f} float32 GFLOP/s and {ceilings['bandwidth']:,.0f} GB/s. "
            "`quoit.tuning.roofline` says what is counted."
        )
        figures = result["speed"].get(threads, {})
        names = sorted({name for each in figures.values() for name, one in each.items() if "limit" in one})
        lines += ["", *titled(["fraction of the limit", *figures])]
        for name in names:
            limits = [each.get(name, {}).get("limit") for each in figures.values()]
            lines.append(row([name, *(f"{limit['fraction']:.0%}" if limit else NONE for limit in limits)]))
        lines.append("")
    return lines[:-1]


def reasons(result: Result) -> list[str]:
    """What did not run, and why, in the system's own words."""
    lines = [
        row([name, when, f"`{reason.replace('|', '/').replace('`', '')}`"])
        for name, facts in result["systems"].items()
        for when, reason in facts.get("reasons", {}).items()
    ]
    return [*titled(["system", "when", "what it said"]), *lines] if lines else ["Everything ran."]


def side_by_side_table(result: Result) -> list[str]:
    """The README's table: one line a system, with the most threads."""
    threads = next(iter(result["speed"]))
    speed, mix = result["speed"][threads], mixed(result, threads)
    columns = [
        "cosine: mean, least",
        "query p50",
        "8x128",
        "8x512",
        mix,
        f"{result['anchor']} ÷ it",
        "memory",
        "installed",
    ]
    lines = titled([on(threads), *columns])
    for name, facts in result["systems"].items():
        if name not in speed.get(mix, {}):
            continue
        query = speed.get("query", {}).get(name)
        rates = [speed.get(each, {}).get(name) for each in ("8x128", "8x512", mix)]
        memory = cold_memory(facts, threads)
        cells = [
            closeness(result, name),
            f"{query['milliseconds']['p50']:.0f} ms" if query else NONE,
            *(f"{rate['tokens_per_second']:,.0f}" if rate else NONE for rate in rates),
            f"{speed[mix][name]['anchor_times_faster']:.2f} ×",
            f"{memory / 1e9:.2f} GB" if memory else NONE,
            f"{facts['installed_bytes'] / 1e6:,.0f} MB",
        ]
        lines.append(row([name, *cells]))
    return lines
