"""Raw measurements on disk, appended as they come: a run that is interrupted goes on where it was.

    FOLDER/rounds.jsonl        one line a round: threads, workload, and seconds of each system that took part; beside
                               them the processor time of those at rest during its turn, and the machine's load
    FOLDER/systems.json        by system: reason it cannot run, versions, bytes installed, cosine, memory, cold start
    FOLDER/machine.json        by threads: the machine's ceilings, and where quoit's time goes
    FOLDER/measured.json       the commits that were measured, and when
    FOLDER/vectors/*.npy       the vectors that cosines come from

This module does not know what the figures mean.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quoit.files.atomic import replacing

Round = dict[str, Any]
Facts = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Store:
    """The folder of one run."""

    folder: Path

    def rounds(self) -> list[Round]:
        """All rounds so far; a last line that was cut short does not count."""
        file = self.folder / "rounds.jsonl"
        if not file.is_file():
            return []
        lines = file.read_text().split("\n")
        return [json.loads(line) for line in lines[:-1]]

    def add(self, measured: Round) -> None:
        """Appends a round."""
        with (self.folder / "rounds.jsonl").open("a") as file:
            file.write(json.dumps(measured) + "\n")

    def done(self, threads: int, workload: str, system: str) -> list[list[float]]:
        """The seconds of a system in each of its rounds of a workload."""
        return [
            measured["seconds"][system]
            for measured in self.rounds()
            if (measured["threads"], measured["workload"]) == (threads, workload) and system in measured["seconds"]
        ]

    def facts(self, kind: str = "systems") -> Facts:
        """What is known of each system beside its rounds, or of the `machine` with each number of threads."""
        file = self.folder / f"{kind}.json"
        found: Facts = json.loads(file.read_text()) if file.is_file() else {}
        return found

    def learn(self, name: str, *, kind: str = "systems", **facts: Any) -> None:
        """Adds to what is known of a system or of the machine."""
        known = self.facts(kind)
        known[name] = known.get(name, {}) | facts
        with replacing(self.folder / f"{kind}.json") as draft:
            draft.write_text(json.dumps(known, indent=2) + "\n")

    def explain(self, name: str, when: str, reason: str | None) -> None:
        """Keeps the reason that a system cannot run, or forgets it, now that the system can."""
        reasons = self.facts().get(name, {}).get("reasons", {})
        changed = {key: text for key, text in reasons.items() if key != when}
        if reason is not None:
            changed[when] = reason
        if changed != reasons:
            self.learn(name, reasons=changed)

    def vectors(self, system: str) -> Path:
        """Where a system's vectors are kept."""
        folder = self.folder / "vectors"
        folder.mkdir(exist_ok=True)
        return folder / f"{system.replace(' ', '-').replace(',', '')}.npy"
