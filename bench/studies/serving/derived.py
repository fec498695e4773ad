"""Figures that compare scenarios, which the table shows; those of scenarios that did not run are left out."""

from statistics import mean

from bench.studies.serving.figures import Figures


def derived(found: Figures) -> Figures:
    """The figures of one server, from its scenarios by name."""
    figures: Figures = {}
    for name, derive in DERIVED.items():
        if name in found and "unavailable" not in found[name]:
            figures |= derive(found[name])
    if {"idle", "bulk"} <= found.keys():
        beside, alone = (found[name]["query"]["ms"]["p99"] for name in ("bulk", "idle"))
        figures["query_p99_over_idle"] = round(beside / alone, 3)
    worst = [each["health_ms"]["worst"] for each in found.values() if each.get("health_ms")]
    return figures | ({"health_worst_ms": max(worst)} if worst else {})


def of_idle(found: Figures) -> Figures:
    """How long a query takes, and what the server adds to the library's time."""
    added = {"added_ms": found["added"]["added_ms"]} if "added" in found else {}
    return {"query_ms": found["query"]["ms"], **added}


def of_bulk(found: Figures) -> Figures:
    """How long a query takes beside bulk work, and the share of its rate that this keeps."""
    kept, alone = (mean(found[f"{name}_tokens_per_second"]) for name in ("beside_queries", "alone"))
    figures = {"query_beside_bulk_ms": found["query"]["ms"], "bulk_tokens_per_second": round(alone, 1)}
    return figures | {"bulk_kept": round(kept / alone, 4) if alone else 0.0}


def of_clients(found: Figures) -> Figures:
    """The rates of single-text clients, also as a share of the library's."""
    over = {"clients_over_library": found["over_library"]} if "over_library" in found else {}
    return {"tokens_per_second": found["tokens_per_second"], **over}


def of_rerank(found: Figures) -> Figures:
    """How long a ranking takes beside bulk work and queries."""
    return {"rerank_ms": found["rerank"]["ms"]}


def of_overload(found: Figures) -> Figures:
    """How a server refuses, what it answers in time nevertheless, and when it is quick again."""
    return {
        "rejected_ms": found["overload"].get("rejected_ms"),
        "recovery_seconds": found["recovery_seconds"],
        "overload_goodput": found["goodput_over_capacity"],
    }


def of_quitters(found: Figures) -> Figures:
    """What it answers in time although clients give up, and the share that it computes for nobody."""
    return {
        "quitters_goodput": found["goodput_over_capacity"],
        "computed_for_nobody": found.get("wasted", {}).get("share_computed_of_given_up"),
    }


DERIVED = {
    "idle": of_idle,
    "bulk": of_bulk,
    "clients": of_clients,
    "rerank": of_rerank,
    "overload": of_overload,
    "quitters": of_quitters,
}
