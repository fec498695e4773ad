"""What each way of making int8 keeps of the small model, and of the checkpoints that are made to break it.

    python -m bench.studies.int8_methods [--threads 1] [--pairs 200]

Every method of `quoit_export.quantize.methods` is written without a gate and compared with fp32: cosines and the
ten nearest on the texts of `parity`, nDCG@10 and cosines on the first pairs of each held-out set, and cosines on every
adversary. `chosen` is what an export takes, fixed steps, layers in float32 and a retreat from rotations
included; `int4` is the same in four bits; `plain, most sensitive layer's down_proj in float32` is what that alone would
gain.
The methods embed the documents in turn, round by round, for their tokens per second, and once each in a process of its
own for its memory.
Writes bench/results/int8-methods.json and prints it as tables. The last line is the JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bench.corpora.texts import read_held_out
from bench.record import RESULTS, ROOT, add_trial, begin
from bench.studies.adversaries import ADVERSARIES, write_adversary
from bench.studies.tables import adversary_table, methods_table
from quoit import Embedder
from quoit.artifact import Artifact, Precision, Variant, write_manifest
from quoit_export.build.staging import Staging, bare_manifest
from quoit_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from quoit_export.precisions.table import PRECISIONS
from quoit_export.quantize.calibration import Observed, built_in_texts, calibration_rows, observe
from quoit_export.quantize.methods import INT4_BITS, INT8_BITS, METHODS, UNROTATED, Bits, Method, fold
from quoit_export.quantize.quant_error import input_error
from quoit_export.quantize.quant_search import Plan, choose
from quoit_export.verify.parity import Comparison, compare, held_out, load_variant

RESULT = RESULTS / "int8-methods.json"
MODEL = ROOT / "models" / "quoit-embedding-9m"
SETS = ("debian", "docstrings", "wordnet")
CHOSEN = "chosen"
INT4 = "int4"
MIXED = "plain, most sensitive layer's down_proj in float32"
ALPHA = 0.5
NEAREST = 10
ROUNDS = 7

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Subject:
    """A checkpoint with its fp32 variant staged, and what its linear layers read."""

    checkpoint: Checkpoint
    staging: Staging
    observed: Observed

    @classmethod
    def stage(cls, checkpoint_folder: Path, folder: Path) -> "Subject":
        """Writes fp32 and observes it on the built-in texts."""
        checkpoint, texts = open_checkpoint(str(checkpoint_folder)), built_in_texts()
        staging = Staging.open(folder, checkpoint, bare_manifest(checkpoint))
        staging.write_variant(checkpoint, "fp32")
        artifact = ungated(staging)
        rows = calibration_rows(artifact, texts)
        activations, _ = observe(load_variant(artifact, "fp32"), checkpoint.architecture, rows)
        observed = Observed(checkpoint.tensor, checkpoint.architecture, activations, texts.record(rows))
        return cls(checkpoint, staging, observed)

    def choose(self, methods: tuple[Method, ...] = METHODS, bits: Bits = INT8_BITS) -> Plan:
        """What an export would take of some methods."""
        return choose(self.observed, methods, bits)

    def plans(self) -> Iterator[tuple[str, Plan]]:
        """Every method with one alpha, one with a layer in float32, and the export's own choice."""
        chosen, architecture = self.choose(), self.checkpoint.architecture
        inputs, read = list(architecture.input), self.checkpoint.tensor
        bare = msgspec.structs.replace(chosen.record, float32_layers=(), steps={}, int8_table=False)
        for method in METHODS:
            if method.alpha in (None, ALPHA):
                folding = fold(read, architecture, self.observed.activations, method, inputs)
                yield method.name, Plan(folding, bare)
                if method == Method():
                    names = [one.name for one in architecture.gated]
                    errors = [input_error(folding, read, name, self.observed.activations) for name in names]
                    worst = names[int(np.argmax(errors))]
                    yield MIXED, Plan(folding, msgspec.structs.replace(bare, float32_layers=(worst,)))
        yield CHOSEN, chosen
        yield INT4, self.choose(bits=INT4_BITS)

    def write(self, plan: Plan, threads: int) -> tuple[Embedder, int]:
        """What runs the variant made as planned, and the variant's bytes."""
        precision: Precision = "int8" if plan.bits == INT8_BITS else "int4"
        self.staging.forget([precision])
        self.staging.write_variant(self.checkpoint, precision, plan)
        embedder = Embedder(ungated(self.staging), precision=precision, provider="cpu", threads=threads)
        return embedder, self.size(precision)

    def size(self, precision: Precision) -> int:
        """Bytes of the variant that is staged."""
        return sum(record.bytes for record in self.staging.partial.variants[precision].files)


def ungated(staging: Staging) -> Artifact:
    """The artifact that a staging folder would be if nothing were measured."""
    variants: dict[Precision, Variant] = {
        name: msgspec.structs.replace(variant, accepted=True) for name, variant in staging.partial.variants.items()
    }
    return Artifact(staging.folder, msgspec.structs.replace(staging.partial.bare, variants=variants))


@dataclass(frozen=True)
class Pairs:
    """The first pairs of a held-out set: document i answers query i."""

    queries: list[str]
    documents: list[str]

    @classmethod
    def read(cls, name: str, most: int) -> "Pairs":
        """The first pairs of a held-out set."""
        pairs = read_held_out(name)[:most]
        return cls([pair["query"] for pair in pairs], [pair["document"] for pair in pairs])

    def encode(self, embedder: Embedder) -> tuple[Vectors, Vectors]:
        """Vectors of queries and documents."""
        return embedder.encode_query(self.queries), embedder.encode_document(self.documents)


def ndcg(queries: Vectors, documents: Vectors) -> float:
    """nDCG@10 where one document answers a query: 1 / log2(its rank + 1) where that is among the ten."""
    scores = queries @ documents.T
    ranks = 1 + np.sum(scores > np.diagonal(scores)[:, None], axis=1)
    return round(float(np.mean(np.where(ranks <= NEAREST, 1 / np.log2(ranks + 1), 0))), 4)


def cosines(found: Vectors, reference: Vectors) -> dict[str, float]:
    """Mean, first percentile and least cosine of the same texts' vectors."""
    values = np.sum(found.astype(np.float64) * reference, axis=1)
    figures = {"mean": values.mean(), "p1": np.percentile(values, 1), "least": values.min()}
    return {name: round(float(value), 6) for name, value in figures.items()}


def resident(embedder: Embedder, texts: list[str], threads: int) -> int:
    """The most resident memory, in bytes, of another process that embeds texts with the same variant."""
    artifact, precision = embedder.pipeline.artifact, embedder.pipeline.session.choice.precision
    write_manifest(artifact.folder, artifact.manifest)
    command = [sys.executable, "-m", "bench.studies.resident", str(artifact.folder), precision, str(threads)]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=True, cwd=ROOT)
    return int(done.stdout)


def throughput(embedders: dict[str, Embedder], texts: list[str]) -> dict[str, dict[str, Any]]:
    """Tokens per second of each, and of each round over fp32's of the same round: least, median, most."""
    tokens = 0
    for embedder in embedders.values():  # the same tokens for all, which are warm then
        tokens = sum(window.tokens for window in embedder.encode_windows(texts))
    seconds: dict[str, list[float]] = {name: [] for name in embedders}
    for _ in tqdm(range(ROUNDS), desc="rounds", disable=None):
        for name, embedder in embedders.items():
            start = time.perf_counter()
            embedder.encode(texts)
            seconds[name].append(time.perf_counter() - start)
    found = {}
    for name, each in seconds.items():
        ratios = np.array(seconds["fp32"]) / each
        over = (ratios.min(), np.median(ratios), ratios.max())
        rate = round(tokens / float(np.median(each)))
        found[name] = {"tokens_per_second": rate, "over_fp32": [round(float(ratio), 3) for ratio in over]}
    return found


def measure_genuine(subject: Subject, pairs: dict[str, Pairs], threads: int) -> dict[str, Any]:
    """The genuine model: everything of every method, and fp32's own nDCG."""
    texts = held_out().texts
    exact = Embedder(ungated(subject.staging), precision="fp32", provider="cpu", threads=threads)
    reference = exact.encode(texts)
    expected = {name: each.encode(exact) for name, each in pairs.items()}
    documents = [document for each in pairs.values() for document in each.documents]
    found: dict[str, Any] = {
        "fp32": {
            "bytes": subject.size("fp32"),
            "nDCG@10": {name: ndcg(*sides) for name, sides in expected.items()},
            "resident_bytes": resident(exact, documents, threads),
        }
    }
    embedders = {"fp32": exact}
    for name, plan in subject.plans():
        embedder, size = subject.write(plan, threads)
        embedders[name] = embedder
        vectors = embedder.encode(texts)
        _, centred, top10, ranking = compare(vectors, reference, Comparison("int8", "embedding"))
        sides = {key: each.encode(embedder) for key, each in pairs.items()}
        found[name] = {
            "bytes": size,
            "cosine": cosines(vectors, reference),
            "centred": {"mean": round(centred.mean, 6), "p1": round(centred.p1, 6), "least": round(centred.minimum, 6)},
            "top10": round(top10.mean, 4),
            "ranking": round(ranking.mean, 5),
            "nDCG@10": {key: ndcg(*each) for key, each in sides.items()},
            "held-out cosine": {
                key: cosines(np.concatenate(each), np.concatenate(expected[key])) for key, each in sides.items()
            },
            "resident_bytes": resident(embedder, documents, threads),
        }
        if name == CHOSEN:
            found[name] |= {"record": msgspec.to_builtins(plan.record)}
    for name, figures in throughput(embedders, documents).items():
        found[name] |= figures
    return found


def holds(found: dict[str, float]) -> bool:
    """Whether cosines reach the floors of int8."""
    return (
        found["mean"] >= PRECISIONS["int8"].mean_floors["cosine"]
        and found["least"] >= PRECISIONS["int8"].floors["cosine"]
    )


def measure_adversary(subject: Subject, threads: int) -> dict[str, Any]:
    """The cosines of every method on an adversary, and what an export takes."""
    texts = held_out().texts
    reference = Embedder(ungated(subject.staging), precision="fp32", provider="cpu", threads=threads).encode(texts)
    found: dict[str, Any] = {}
    for name, plan in subject.plans():
        found[name] = cosines(subject.write(plan, threads)[0].encode(texts), reference)
        if name == CHOSEN and plan.folding.stream is not None and not holds(found[name]):
            plan = subject.choose(UNROTATED)
            found[name] = cosines(subject.write(plan, threads)[0].encode(texts), reference)
        if name == CHOSEN:
            found[name] |= {"method": plan.record.method, "floats": len(plan.record.float32_layers)}
    return found


def main() -> None:
    """Measures, writes, prints."""
    parser = argparse.ArgumentParser(description="Compare the ways of making int8.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=200)
    add_trial(parser)
    options = parser.parse_args()
    recording = begin(trial=options.trial)
    pairs = {name: Pairs.read(name, options.pairs) for name in SETS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        genuine = measure_genuine(Subject.stage(MODEL, folder / "genuine"), pairs, options.threads)
        adversaries = {}
        for name in tqdm(ADVERSARIES, disable=None):
            place = folder / name.replace(" ", "-")
            checkpoint = write_adversary(MODEL, place / "checkpoint", name)
            adversaries[name] = measure_adversary(Subject.stage(checkpoint, place / "staging"), options.threads)
    result = recording.describe(options.threads) | {
        "texts": len(held_out().texts),
        "pairs": options.pairs,
        "genuine": genuine,
        "adversaries": adversaries,
    }
    print("\n".join([*methods_table(result), "", *adversary_table(result)]))
    print(json.dumps(result))
    recording.write(RESULT, result)


if __name__ == "__main__":
    main()
