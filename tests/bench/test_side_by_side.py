"""The harness end to end on quoit alone, in real processes: no rival's environment is made here."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from bench.corpora.texts import cut, read_texts
from bench.environments import UnavailableError, last_words
from bench.side_by_side import client, report, systems
from bench.side_by_side import measure as measurement
from bench.side_by_side.client import Worker
from bench.side_by_side.compare import compare_results
from bench.side_by_side.limits import add_fractions, works
from bench.side_by_side.measure import Plan, cold_starts, groups, measure, missing
from bench.side_by_side.profile import behind, profile
from bench.side_by_side.result import NONE
from bench.side_by_side.store import Store
from bench.side_by_side.summary import compare, describe_checkpoint, figures_of
from bench.side_by_side.systems import ANCHOR, SYSTEMS, Files, System
from bench.side_by_side.tables import side_by_side_table
from bench.side_by_side.verdicts import lost, targets, unfaithful
from bench.side_by_side.workloads import Workload, workloads
from quoit.artifact import Artifact
from support import Embedders

FP32 = "quoit fp32"
TEXTS = ["The capital of China is Beijing.", "Gravity attracts two bodies.", "a"]
DOCUMENTS = Workload("documents", "document", TEXTS, [8, 7, 2], rounds=2)
QUERIES = Workload("query", "query", TEXTS, [8, 7, 2], apart=True, rounds=2)


@pytest.fixture(autouse=True)
def _this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """quoit runs with the Python of the tests."""
    for module in (client, systems):
        monkeypatch.setattr(module, "environment", lambda _: Path(sys.executable))
    monkeypatch.setattr(measurement, "COLD_STARTS", 2)
    monkeypatch.setattr(measurement, "SHORT_SECONDS", 0.05)


def plan_of(artifact: Artifact, store: Store, *more: System, rounds: int | None = None) -> Plan:
    chosen = [system for system in SYSTEMS if system.name in {ANCHOR, FP32}] + list(more)
    config = {"model": str(artifact.folder), "task": "embedding"}
    found = {system.name: (system, config | system.settings) for system in chosen}
    check = Workload("check", "document", TEXTS, [8, 7, 2])
    return Plan(found, [DOCUMENTS, QUERIES], check, threads=1, rounds=rounds, seconds=1, memory=1e9)


def test_a_worker_gives_the_vectors_that_quoit_gives(artifact: Artifact, embedders: Embedders, tmp_path: Path) -> None:
    (system,) = [system for system in SYSTEMS if system.name == FP32]
    config = {"model": str(artifact.folder), "task": "embedding"} | system.settings
    with Worker(system, config, 1, tmp_path / "log") as worker:
        loaded = worker.ask("load")
        assert loaded["versions"]["onnxruntime"]
        keep = str(tmp_path / "vectors.npy")
        answer = worker.ask("encode", texts=TEXTS, query=True, apart=True, keep=keep)
        assert len(answer["seconds"]) == len(TEXTS)
        np.testing.assert_array_equal(np.load(keep), embedders("fp32").encode_query(TEXTS))
        with pytest.raises(UnavailableError, match="AttributeError"):
            worker.ask("score", query="q", documents=TEXTS, keep=None)
        assert len(worker.ask("encode", texts=TEXTS, query=False, apart=False, keep=None)["seconds"]) == 1
        assert 0 < worker.memory()["resident"] <= worker.memory()["peak"]
    assert worker.process.returncode is not None


def test_a_run_measures_what_is_missing_and_reports_it(
    artifact: Artifact, checkpoint_folder: Path, tmp_path: Path
) -> None:
    """A system that cannot load is named with its reason; the rest is measured, and nothing twice."""
    store = Store(tmp_path)
    broken = System("broken", "quoit", "quoit_runtime", lambda _: {}, {"model": "/no/artifact", "precision": "fp32"})
    plan = plan_of(artifact, store, broken)
    cold_starts(plan, store, QUERIES)
    measure(plan, store, checkpoint_bytes=1)
    facts = store.facts()
    assert "/no/artifact is not a folder" in facts["broken"]["reasons"]["document, 1 threads"]
    assert not any(missing(plan, store, workload, name) for workload in plan.workloads for name in (ANCHOR, FP32))
    assert [measured["workload"] for measured in store.rounds()] == ["documents", "documents", "query", "query"]
    for measured in store.rounds():
        assert measured["beside"] == {FP32: measured["seconds"][ANCHOR]}, "the anchor's turns before and after"
        assert set(measured["others"]) == {ANCHOR, FP32}
    measure(plan_of(artifact, store), store, checkpoint_bytes=1)
    assert len(store.rounds()) == 4

    assert len(facts[FP32]["cold"]["1"]["seconds"]) == 1
    result = result_of(store, artifact, checkpoint_folder)
    speed = result["speed"]["1"]["documents"]
    assert speed[ANCHOR]["anchor_times_faster"] == 1
    assert set(speed) == {ANCHOR, FP32}
    assert all(0 < each["limit"]["fraction"] < 1 for each in speed.values())
    written = report.page(result, {"A plot": "plot.png"})
    assert "/no/artifact is not a folder" in written
    assert "![A plot](plot.png)" in written
    assert list(compare_results(result, result))
    store.explain("broken", "document, 1 threads", None)
    assert store.facts()["broken"]["reasons"] == {}, "a reason goes when the system runs"


def test_a_system_that_dies_in_a_round_is_given_up_and_the_rest_goes_on(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps what was measured of it, and its reason; a later run measures it again."""
    genuine = measurement.turn

    def turn(worker: Worker, workload: Workload, *rest: Any, **options: Any) -> list[float]:
        if workload is QUERIES and worker.system.name == FP32:
            worker.process.kill()
        return genuine(worker, workload, *rest, **options)

    store = Store(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(measurement, "turn", turn)
        measure(plan_of(artifact, store), store, checkpoint_bytes=1)
    queries = [measured for measured in store.rounds() if measured["workload"] == "query"]
    assert [list(measured["seconds"]) for measured in queries] == [[ANCHOR], [ANCHOR]]
    assert [measured["beside"] for measured in queries] == [{}, {}]
    assert store.done(1, "documents", FP32)
    ((what, reason),) = store.facts()[FP32]["reasons"].items()
    assert what == "query, 1 threads"
    assert reason.startswith("ended with status -9 (killed, as Linux does when memory runs out)")
    measure(plan_of(artifact, store), store, checkpoint_bytes=1)
    assert len(store.done(1, "query", FP32)) == 2
    assert store.facts()[FP32]["reasons"] == {}


def test_a_profile_leaves_out_the_run_in_which_memory_is_taken() -> None:
    def event(name: str, ts: int, dur: int) -> dict[str, Any]:
        return {"cat": "Node", "name": name, "ts": ts, "dur": dur, "args": {"op_name": "MatMul"}}

    first, second = event("a_kernel_time", 5, 90), event("a_kernel_time", 105, 9)
    events = [first, event("model_run", 0, 100), second, event("model_run", 101, 20)]
    assert behind(events, 1) == [second, events[3]]


def result_of(store: Store, artifact: Artifact, checkpoint_folder: Path) -> dict[str, Any]:
    """A result as `bench.side_by_side.summary.summarise` makes it, for workloads of these tests."""
    rounds = store.rounds()
    ceilings = {"int8": 500.0, "fp32": 100.0, "bandwidth": 20.0}
    speed: dict[str, Any] = {}
    for workload in (DOCUMENTS, QUERIES):
        speed[workload.name] = compare([each for each in rounds if each["workload"] == workload.name], workload)
        add_fractions(speed[workload.name], works(artifact, workload), ceilings)
    kinds = profile(artifact, "int8", TEXTS, 1)
    assert sum(kinds.values()) == pytest.approx(1, abs=0.01)
    assert {"attention", "matrix products"} <= kinds.keys()
    facts = store.facts()
    facts[ANCHOR] |= {"cosine": {"mean": 0.999, "least": 0.99}, "installed_bytes": 1}
    facts[FP32] |= {"cosine": {"mean": 1.0, "least": 1.0}, "installed_bytes": 1}
    return {
        "commit": "0",
        "date": "today",
        "machine": {"cpu": "a CPU"},
        "anchor": ANCHOR,
        "reference": systems.REFERENCE,
        "checkpoints": {"embedding": describe_checkpoint(Files(checkpoint_folder, "embedding"))},
        "workloads": {each.name: {"kind": each.kind} for each in (DOCUMENTS, QUERIES)},
        "systems": facts,
        "limits": {"1": {"ceilings": ceilings, "profile": {"int8": kinds}}},
        "speed": {"1": speed},
    }


def test_slow_systems_get_fewer_rounds(artifact: Artifact, tmp_path: Path) -> None:
    store, long = Store(tmp_path), Workload("long", "document", TEXTS, [8, 7, 2], rounds=9)
    plan = plan_of(artifact, store)
    assert missing(plan, store, long, FP32) == 9
    store.add({"threads": 1, "workload": "long", "seconds": {FP32: [10.0], ANCHOR: [0.3]}})
    assert (missing(plan, store, long, FP32), missing(plan, store, long, ANCHOR)) == (0, 2)


def test_groups_fit_into_memory_and_have_the_anchor(artifact: Artifact, tmp_path: Path) -> None:
    others = [System(f"other {number}", "quoit", "quoit_runtime", lambda _: {}, memory=2) for number in range(4)]
    plan = plan_of(artifact, Store(tmp_path), *others)
    found = list(groups(plan, checkpoint_bytes=150_000_000))
    assert all(group[0] == ANCHOR for group in found)
    assert sorted(name for group in found for name in group[1:]) == sorted({*plan.systems} - {ANCHOR})
    sizes = {name: system.memory for name, (system, _) in plan.systems.items()}
    assert all(sum(sizes[name] for name in group) * 0.15e9 <= plan.memory for group in found)
    assert len(found) == 3


def test_figures_are_medians_and_ratios_round_by_round() -> None:
    """The machine is half as fast in the second round, or slows down within one, and the ratio does not care."""
    rounds = [
        {"seconds": {ANCHOR: [1.0], "other": [3.0]}},
        {"seconds": {ANCHOR: [2.0], "other": [6.0]}},
        {"seconds": {ANCHOR: [1.0]}},
    ]
    other = figures_of("other", rounds, DOCUMENTS)
    assert (other["rounds"], other["anchor_times_faster"], other["seconds"]) == (2, 3.0, 4.5)
    assert other["tokens_per_second"] == pytest.approx(np.median([17 / 3, 17 / 6]), abs=0.1)
    slowing = {"seconds": {ANCHOR: [1.0, 2.0, 9.0], "other": [3.0]}, "beside": {"other": [1.0, 2.0]}}
    assert figures_of("other", [slowing], DOCUMENTS)["anchor_times_faster"] == 2.0
    assert figures_of(ANCHOR, [slowing], DOCUMENTS)["anchor_times_faster"] == 1.0
    calls = {"other": [0.1, 0.2, 0.3, 0.3, 0.2, 0.1], ANCHOR: [0.1] * 6}
    times = figures_of("other", [{"seconds": calls}], QUERIES)
    assert times["by_length"] == [[8, 200.0], [7, 200.0], [2, 200.0]]
    assert times["milliseconds"]["p50"] == 200.0


def test_a_line_cut_short_does_not_count(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add({"threads": 1, "workload": "documents", "seconds": {ANCHOR: [1.0]}})
    with (tmp_path / "rounds.jsonl").open("a") as file:
        file.write('{"threads": 1, "workl')
    assert store.done(1, "documents", ANCHOR) == [[1.0]]


def test_the_report_says_where_quoit_is_behind() -> None:
    def figures(ratio: float) -> dict[str, Any]:
        return {"anchor_times_faster": ratio, "tokens_per_second": 100 / ratio, "seconds": 1.0}

    result: dict[str, Any] = {
        "anchor": ANCHOR,
        "reference": systems.REFERENCE,
        "workloads": {"8x128": {"kind": "document"}, "mix of 200": {"kind": "document"}},
        "systems": {
            ANCHOR: {"cosine": {"mean": 0.999, "least": 0.99}, "installed_bytes": 2e8},
            "rival": {"cosine": {"mean": 0.995, "least": 0.99}, "installed_bytes": 1e8},
            "careless": {"cosine": {"mean": 0.9, "least": 0.5}, "installed_bytes": 1e7},
        },
        "speed": {
            "2": {
                "8x128": {ANCHOR: figures(1.0), "rival": figures(0.8), "careless": figures(0.5)},
                "mix of 200": {ANCHOR: figures(1.0), "rival": figures(2.5), "careless": figures(0.5)},
            }
        },
    }
    assert list(lost(result, "2")) == ["- 8x128, 2 threads: rival is 1.25 × as fast as quoit int8"]
    assert [line.split(":")[1].split(" is ")[0] for line in unfaithful(result, "2")] == [
        " careless",
        " careless",
    ]
    judged = {words.split(":")[0]: verdict for words, _, verdict in targets(result)}
    assert judged["mix of 200"] in {"met", NONE}
    assert judged["8x128"] == "**missed**"
    assert judged["smallest installation"] == "**missed**"
    assert judged["8x512"] == NONE
    table = side_by_side_table(result)
    assert len(table) == 5
    assert "0.9950, 0.9900" in next(line for line in table if line.startswith("| rival"))


def test_texts_are_real_and_cut_to_the_token(tokenizer: Tokenizer) -> None:
    found = workloads(tokenizer)
    assert set(found["8x128"].lengths) == {128}
    assert found["1x8192"].lengths == [8192]
    assert found["rerank 100"].kind == "rerank"
    assert len(set(found["mix of 1000"].texts)) > 990
    assert found["mix of 200"].texts == found["mix of 1000"].texts[:200]
    assert len({record["language"] for record in read_texts()}) == 16
    for text in ("今天天气很好，我们去公园散步吧。" * 5, "🎉🎉🎉🎉🎉🎉", "naïve café " * 20):
        assert len(tokenizer.encode(cut(tokenizer, text, 7)).ids) <= 7


def test_every_system_has_pinned_requirements_and_an_adapter() -> None:
    for system in SYSTEMS:
        lines = (systems.REQUIREMENTS / f"{system.environment}.txt").read_text().splitlines()
        packages = [line for line in lines if line and not line.startswith("#")]
        if system.adapter == "none":
            continue
        assert packages
        assert all("==" in package for package in packages)
        assert (Path(systems.__file__).parent / "workers" / f"{system.adapter}.py").is_file()


def test_the_reason_is_the_last_error() -> None:
    said = "noise\nERROR: first\nmore\nValueError: the size\n  of the tensor\n"
    assert last_words(said) == "ValueError: the size of the tensor"
    assert last_words("one\ntwo") == "one two"
    assert len(last_words("x" * 5000)) <= 600


def test_a_result_reads_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.learn("a", versions={"b": "1"})
    store.learn("a", installed_bytes=3)
    store.learn("2", kind="machine", ceilings={})
    assert store.facts() == {"a": {"versions": {"b": "1"}, "installed_bytes": 3}}
    assert json.loads((tmp_path / "machine.json").read_text()) == {"2": {"ceilings": {}}}
