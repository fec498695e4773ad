"""The study's table: a line for each server."""

from typing import Any

from bench.markdown import row, titled

NOTHING = "–"
COLUMNS = [
    "server",
    "query, idle: p50, p99",
    "added to the library's p50",
    "query beside bulk: p50, p99",
    "p99 ÷ idle",
    "bulk kept",
    "32 clients, tokens/s",
    "÷ library",
    "100 documents ranked: p50",
    "overload: goodput, refusal p99, recovery",
    "30 % give up: goodput, computed for nobody",
    "health, worst",
    "memory: largest, growth a minute",
]


def serving_table(result: dict[str, Any]) -> list[str]:
    """Latency, throughput, overload and memory of each server."""
    lines = titled(COLUMNS)
    for name, found in result["systems"].items():
        if "unavailable" in found:
            lines.append(row([name, "not run", *[NOTHING] * (len(COLUMNS) - 2)]))
            continue
        lines.append(row([name, *cells(found["derived"], found["memory"])]))
    return lines


def cells(derived: dict[str, Any], memory: dict[str, float]) -> list[str]:
    """The cells of a server."""
    kept, nobody = derived.get("bulk_kept"), derived.get("computed_for_nobody")
    over = derived.get("clients_over_library", {}).get("32")
    return [
        both(derived.get("query_ms")),
        one(derived.get("added_ms"), "{:.1f} ms"),
        both(derived.get("query_beside_bulk_ms")),
        one(derived.get("query_p99_over_idle"), "{:.1f} ×"),
        one(kept, "{:.0%}"),
        one(derived.get("tokens_per_second", {}).get("32"), "{:,.0f}"),
        one(over, "{:.2f} ×"),
        one(derived.get("rerank_ms", {}).get("p50"), "{:,.0f} ms"),
        overload(derived),
        joined(one(derived.get("quitters_goodput"), "{:.0%}"), one(nobody, "{:.0%}")),
        one(derived.get("health_worst_ms"), "{:,.0f} ms"),
        joined(one(memory.get("largest_mb"), "{:,.0f} MB"), one(memory.get("mb_per_minute"), "{:+.1f} MB")),
    ]


def overload(derived: dict[str, Any]) -> str:
    """Share of its capacity that a server answers in time under twice the load, and how it refuses and recovers."""
    if "overload_goodput" not in derived:
        return NOTHING
    refusal = (derived["rejected_ms"] or {}).get("p99")
    recovery = derived["recovery_seconds"]
    again = "not within 15 s" if recovery is None else f"{recovery:.1f} s"
    return joined(one(derived["overload_goodput"], "{:.0%}"), one(refusal, "{:,.0f} ms"), again)


def both(found: dict[str, float] | None) -> str:
    """Median and 99th percentile."""
    return f"{found['p50']:,.1f}, {found['p99']:,.1f} ms" if found else NOTHING


def one(value: float | None, form: str) -> str:
    """A value in its form."""
    return NOTHING if value is None else form.format(value)


def joined(*parts: str) -> str:
    """Cells within a cell."""
    return ", ".join(parts)
