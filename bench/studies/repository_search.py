"""How often `quoit search` answers ten questions about this repository in its first three hits.

    python -m bench.studies.repository_search EMBEDDER RERANKER [--trial]

Runs the command over the repository's folder for each question: with the reranker's artifact and without, and with
documents cut into chunks and not. bench/corpora/repository_questions.json has the questions, and which passages answer
them. Writes bench/results/repository-search.json; the last line is the JSON.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.record import RESULTS, ROOT, add_trial, begin

RESULT = RESULTS / "repository-search.json"
QUESTIONS = ROOT / "bench" / "corpora" / "repository_questions.json"
FIRST = 3
CHUNKS = (256, 0)


def search(question: str, chunk: int, options: list[str]) -> list[dict[str, Any]]:
    """The first hits of a search through the repository."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "ranking.jsonl"
        command = [sys.executable, "-m", "quoit", "search", question, ".", "--chunk", str(chunk), "--top", str(FIRST)]
        subprocess.run([*command, "-o", str(out), *options], check=True, cwd=ROOT, capture_output=True)
        return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def answers(hit: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a hit is a passage that answers."""
    return hit["file"] in wanted["files"] and bool(re.search(wanted["pattern"], hit["text"], re.IGNORECASE))


def ask(questions: list[dict[str, Any]], chunk: int, options: list[str]) -> dict[str, Any]:
    """The place of each question's answer among the first hits, from 1; None where there is none."""
    places: dict[str, int | None] = {}
    for wanted in questions:
        hits = search(wanted["question"], chunk, options)
        places[wanted["question"]] = next((n for n, hit in enumerate(hits, 1) if answers(hit, wanted)), None)
    answered = sum(place is not None for place in places.values())
    return {"answered": answered, "questions": len(questions), "places": places}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.studies.repository_search", description=__doc__)
    parser.add_argument("embedder", type=Path)
    parser.add_argument("reranker", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    add_trial(parser)
    options = parser.parse_args()
    recording = begin(trial=options.trial)
    questions = json.loads(QUESTIONS.read_text(encoding="utf-8"))["questions"]
    run = ["-m", str(options.embedder.resolve()), "--provider", "cpu", "--threads", str(options.threads)]
    ways = {}
    for chunk in CHUNKS:
        for judged in (False, True):
            name = f"{'chunks' if chunk else 'parts'}{', reranker' if judged else ''}"
            judge = ["--rerank", str(options.reranker.resolve())] if judged else []
            ways[name] = {"chunk": chunk, "reranker": judged, **ask(questions, chunk, [*run, *judge])}
            print(f"{name}: {ways[name]['answered']} of {len(questions)}", file=sys.stderr)
    models = {"embedder": options.embedder.name, "reranker": options.reranker.name}
    result = recording.describe(options.threads) | models | {"first": FIRST, "ways": ways}
    recording.write(RESULT, result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
