"""Upload an artifact to the Hugging Face hub, with a model card that shows what export measured."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelCardData,
    get_token,
    hf_hub_download,
)
from huggingface_hub.utils.tqdm import disable_progress_bars

from quoit.artifact import HELD_OUT, MANIFEST, Artifact, Manifest, Measure, Parity, Precision, Task, Variant
from quoit.errors import brief
from quoit.hub.names import HubName
from quoit_export.errors import ExportError

CARD = "README.md"
MADE = "<!-- made by quoit-export; without this line it is yours, and `--push` leaves it alone -->"
"""Line of cards that may be replaced."""
PIPELINES: dict[Task, str] = {"embedding": "feature-extraction", "rerank": "text-ranking"}
COLUMNS: dict[Measure, str] = {
    "cosine": "cosine",
    "centred": "centred cosine",
    "top10": "ten nearest kept",
    "agreement": "agreement of P(yes)",
    "spearman": "rank correlation",
}
"""Measures of the held-out texts that a card shows, and their words."""
EXAMPLES: dict[Task, str] = {
    "embedding": """from quoit import Embedder

embedder = Embedder("{name}")
documents = embedder.encode_document(["The capital of China is Beijing."])
queries = embedder.encode_query(["What is the capital of China?"])
print(queries @ documents.T)""",
    "rerank": """from quoit import Reranker

reranker = Reranker("{name}")
print(reranker.rank("What is the capital of China?", ["Beijing.", "A force."]))""",
}


def check_push(name: HubName) -> None:
    """Refuse an upload that could not be made, before any work is done for it.

    Raises:
        ExportError: a revision was named, or nobody is logged in.
    """
    if name.revision is not None:
        raise ExportError(f"--push {name} names a revision; name the repository alone, ORG/NAME")
    if get_token() is None:
        raise ExportError(f"--push {name} needs a token of the hub; `hf auth login`, or set HF_TOKEN")


def push(artifact: Artifact, name: HubName, own_files: Iterable[str], *, private: bool = False) -> str:
    """Upload an artifact in one commit, and return the address of its page.

    The repository is made if there is none. Files of an earlier artifact that this one does not have are removed; a
    model card that somebody wrote is kept.

    Args:
        artifact: the artifact; all its variants were accepted.
        name: the repository.
        own_files: paths of all files that an artifact may have.
        private: True to make a new repository private.

    Raises:
        ExportError: a variant was rejected, or the hub refuses the upload.
        ArtifactError: a file is damaged.
    """
    manifest = artifact.manifest
    rejected = [precision for precision, variant in manifest.variants.items() if not variant.accepted]
    if rejected:
        raise ExportError(
            f"the {rejected[0]} variant of {artifact.folder} was rejected at export, and is not for others; export "
            f"without --precision {rejected[0]} to push"
        )
    files = {record.path: artifact.verify(record) for record in manifest.records()}
    files[MANIFEST] = artifact.folder / MANIFEST
    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(library_name="quoit")
    try:
        page = api.create_repo(name.repository, private=private or None, exist_ok=True)
        there = set(api.list_repo_files(name.repository))
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(path, str(file)) for path, file in files.items()
        ]
        operations += [CommitOperationDelete(path) for path in sorted(there & set(own_files) - files.keys())]
        if CARD not in there or MADE in _card_of(name):
            operations.append(CommitOperationAdd(CARD, model_card(manifest, name.repository).encode()))
        api.create_commit(name.repository, operations, commit_message=f"Artifact by {manifest.created_by}")
    except Exception as error:  # the errors of the HTTP library below depend on its version
        raise ExportError(
            f"cannot push to {name} ({type(error).__name__}: {brief(error)}); the artifact is in {artifact.folder}, "
            "and the same command pushes it again"
        ) from error
    return str(page)


def _card_of(name: HubName) -> str:
    return Path(hf_hub_download(name.repository, CARD)).read_text(encoding="utf-8", errors="replace")


def model_card(manifest: Manifest, repository: str) -> str:
    """Return the text of a model card: what it is, how to load it, and what export measured."""
    source, task = manifest.source, manifest.task
    data = ModelCardData(
        base_model=source.id if "/" in source.id else None,
        library_name="quoit",
        pipeline_tag=PIPELINES[task],
        tags=["onnx", "quoit", manifest.family.name],
    )
    revision = f" at `{source.revision[:12]}`" if source.revision else ""
    lines = [
        "---",
        data.to_yaml(),
        "---",
        MADE,
        "",
        f"# {repository.rpartition('/')[2]}",
        "",
        f"`{source.id}`{revision} as ONNX graphs for quoit, by {manifest.created_by}.",
        "",
        "    pip install 'quoit[cpu,hub]'",
        "",
        "```python",
        EXAMPLES[task].format(name=repository),
        "```",
        "",
        f"{manifest.dimension:,} dimensions, up to {manifest.max_tokens:,} tokens. Each text has the same bits alone "
        "and in any batch.",
        "",
        "## What export measured",
        "",
        *fidelity(manifest.variants),
        "",
        "Mean and least value on held-out texts, each variant compared with the one that the second column names, on "
        "the machine that exported it. `quoit info` shows all measures.",
        "",
    ]
    return "\n".join(lines)


def fidelity(variants: dict[Precision, Variant]) -> list[str]:
    """Return a table of variants: sizes, and the measures that they have."""
    found = {name: held_out(variant.parity) for name, variant in variants.items()}
    measures = [measure for measure in COLUMNS if any(measure in each for each in found.values())]
    lines = [row(["variant", "compared with", "MB", *(COLUMNS[each] for each in measures)])]
    lines.append("|---" * (len(measures) + 3) + "|")
    for name, variant in variants.items():
        records, size = found[name], sum(record.bytes for record in variant.files)
        reference = next((each.reference for each in records.values()), "–")
        cells = [
            f"{records[each].mean:.5f}, {records[each].minimum:.5f}" if each in records else "–" for each in measures
        ]
        lines.append(row([name, reference, f"{size / 1e6:,.1f}", *cells]))
    return lines


def held_out(parity: Sequence[Parity]) -> dict[Measure, Parity]:
    """Return the measures of a variant's first graph on held-out texts."""
    return {one.measure: one for one in reversed(parity) if one.texts == HELD_OUT and one.graph == "cpu"}


def row(cells: Iterable[str]) -> str:
    """Return a line of a table in Markdown."""
    return f"| {' | '.join(cells)} |"
