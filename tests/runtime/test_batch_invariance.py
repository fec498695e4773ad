"""A text does not see its batch: the same bits alone and beside a text that begins alike, at every length of a tile.

Tiled attention takes queries in tiles. How many a tile has follows from the CPU's caches, so a test holds the formula
against what onnxruntime's own node does here. `test_embedder` and `test_reranker` compare texts of all kinds.
"""

import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from oracle import make_model, save_checkpoint
from quoit import Embedder, Reranker
from quoit.artifact import Precision, Task
from quoit.engine.limits import TILED_FROM
from quoit.ort.module import onnxruntime
from quoit.text.prompts import render_pairs
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.export import Request, publish
from support import byte_tokenizer, edit_json

MODELS = Path(__file__).parents[2] / "models"
TASKS: dict[Task, Path] = {"embedding": MODELS / "quoit-embedding-9m", "rerank": MODELS / "quoit-reranker-6m"}
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
SMALL_HEAD_DIM, OFFICIAL_HEAD_DIM = 64, 128
"""Those of the small models and of the official ones; a tile's size follows from it."""
SHORTEST, LONGEST = 380, 1_100
LONGER_BY = (1, 2, 30)
"""How many tokens longer than a text the one beside it is."""
MAX_TOKENS = 1_136
"""A limit near the longest text, so that the last tile before the limit is among those that are tried."""
BATCH_TOKENS = (None, 2_048, 4_096)
QUERY = "water"
X86 = ("x86_64", "AMD64")
"""Where onnxruntime has another kernel for products of one row."""
FLOAT, INT32 = ir.DataType.FLOAT, ir.DataType.INT32


def attention_node(head_dim: int) -> Any:
    """A session of one tiled attention node with one head."""
    inputs = [ir.val(name, FLOAT, [1, "S", head_dim]) for name in "qkv"]
    lengths, longest = ir.val("lengths", INT32, [1]), ir.val("longest", INT32, [])
    node = ir.node(
        "GroupQueryAttention",
        [*inputs, None, None, lengths, longest],
        {"num_heads": 1, "kv_num_heads": 1},
        domain="com.microsoft",
        num_outputs=3,
    )
    for value, name in zip(node.outputs, ("context", "keys", "values"), strict=True):
        value.name, value.dtype = name, FLOAT
    opsets = {"": 20, "com.microsoft": 1}
    graph = ir.Graph([*inputs, lengths, longest], [node.outputs[0]], nodes=[node], opset_imports=opsets, name="node")
    model = ir.serde.serialize_model(ir.Model(graph, ir_version=10)).SerializeToString()
    return onnxruntime().InferenceSession(model, providers=["CPUExecutionProvider"])


@cache
def lone_lengths(head_dim: int) -> tuple[int, ...]:
    """The lengths whose last query has other bits in a rectangle of that width than in a wider one: one tile's only."""
    session = attention_node(head_dim)
    values = np.random.default_rng(0).normal(size=(3, 1, LONGEST + 1, head_dim)).astype(np.float32)

    def last(length: int, width: int) -> NDArray[np.float32]:
        feed = dict(zip("qkv", values[:, :, :width], strict=True))
        sizes = {"lengths": np.array([length - 1], np.int32), "longest": np.array(width, np.int32)}
        context: NDArray[np.float32] = session.run(["context"], feed | sizes)[0][0, length - 1]
        return context

    return tuple(n for n in range(SHORTEST, LONGEST + 1) if (last(n, n) != last(n, n + 1)).any())


def tile_rows(head_dim: int) -> int:
    """The queries of a tile: min(L2 / (32 head_dim), 2 head_dim), as `ApplyAttentionFlash` of onnxruntime has it."""
    cache_bytes = os.sysconf("SC_LEVEL2_CACHE_SIZE") if "SC_LEVEL2_CACHE_SIZE" in os.sysconf_names else 0
    return min(cache_bytes // (32 * head_dim) or 2 * head_dim, 2 * head_dim)


def edges(head_dim: int) -> list[int]:
    """Two lengths to each side of the end of every tile, and of the longest row without tiles."""
    ends = {*range(0, LONGEST, tile_rows(head_dim)), TILED_FROM - 1}
    return sorted({end + step for end in ends for step in (-1, 0, 1, 2)} & {*range(SHORTEST, LONGEST + 1)})


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Task], Path]:
    """The small models with a limit above the longest text; each is exported once."""

    @cache
    def make(task: Task) -> Path:
        folder = tmp_path_factory.mktemp(task)
        checkpoint = shutil.copytree(TASKS[task], folder / "model")
        edit_json(checkpoint / "config.json", max_position_embeddings=MAX_TOKENS)
        publish(open_checkpoint(str(checkpoint), task=task), Request(folder / "out", PRECISIONS))
        return folder / "out"

    return make


@pytest.fixture(scope="module")
def wide_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of bytes with the official models' head_dim."""
    folder = tmp_path_factory.mktemp("wide")
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    sizes = {"vocab_size": 512, "num_hidden_layers": 2, "head_dim": OFFICIAL_HEAD_DIM}
    model = make_model(max_position_embeddings=MAX_TOKENS, **sizes)
    checkpoint = save_checkpoint(folder / "model", folder / "tokenizer.json", model)
    publish(open_checkpoint(str(checkpoint)), Request(folder / "out", PRECISIONS))
    return folder / "out"


@dataclass(frozen=True)
class Subject:
    """A loaded model and texts for it: the longer ones continue the shorter, and each word is a token."""

    model: Embedder | Reranker
    words: Sequence[str]

    def text(self, tokens: int) -> str:
        """The text of so many tokens, those around it included."""
        text = "".join(self.words[: tokens - self.around])
        assert self.tokens(text) == tokens
        return text

    @cached_property
    def around(self) -> int:
        return self.tokens("".join(self.words[:1])) - 1

    def tokens(self, text: str) -> int:
        rendered = [text]
        if isinstance(self.model, Reranker):
            rendered = list(render_pairs([(QUERY, text)], self.model.contract.instruction, "\n"))
        return len(self.model.pipeline.tokenizer.encode(rendered).ids[0])

    def answer(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if isinstance(self.model, Embedder):
            vectors: NDArray[np.float32] = self.model.encode(texts)
            return vectors
        scores: NDArray[np.float32] = self.model.predict([(QUERY, text) for text in texts], activation="logit")
        return scores


def load(folder: Path, task: Task, precision: Precision, batch_tokens: int | None) -> Subject:
    kind = {"embedding": Embedder, "rerank": Reranker}[task]
    model = kind(folder, precision=precision, provider="cpu", batch_tokens=batch_tokens)
    count = model.pipeline.tokenizer.tokenizer
    page = (MODELS / "README.md").read_text(encoding="utf-8")
    words = sorted({f" {word}" for word in re.findall(r"\b[a-z]{3,}\b", page)})
    single = [word for word in words if len(count.encode(word, add_special_tokens=False)) == 1]
    return Subject(model, np.random.default_rng(0).choice(single or list("abcdefgh"), MAX_TOKENS).tolist())


def differences(subject: Subject, lengths: Sequence[int], longer_by: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The lengths of the texts that have other bits together than alone."""

    @cache
    def alone(length: int) -> NDArray[np.float32]:
        answer: NDArray[np.float32] = subject.answer([subject.text(length)])[0]
        return answer

    for length in lengths:
        for other in (length + more for more in longer_by):
            found = subject.answer([subject.text(length), subject.text(other)])
            if not all((both == alone(one)).all() for both, one in zip(found, (length, other), strict=True)):
                yield length, other


def test_a_tile_has_one_query_where_the_formula_says_so() -> None:
    """What the padding of tiled rows is for. Where this fails, onnxruntime has changed: see `attended_positions`."""
    tile = tile_rows(SMALL_HEAD_DIM)
    alone = {n for n in range(SHORTEST, LONGEST + 1) if n % tile == 1}
    found = set(lone_lengths(SMALL_HEAD_DIM))
    assert found == alone if platform.machine() in X86 else found <= alone


@pytest.mark.parametrize(("batch_tokens", "longest"), [(None, 520), (BATCH_TOKENS[-1], LONGEST)])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("task", TASKS)
def test_a_text_does_not_see_its_batch_at_the_end_of_a_tile(
    artifacts: Callable[[Task], Path], task: Task, precision: Precision, batch_tokens: int | None, longest: int
) -> None:
    """By default two longer texts are not in a batch."""
    subject = load(artifacts(task), task, precision, batch_tokens)
    lengths = [length for length in edges(SMALL_HEAD_DIM) if length <= longest]
    assert not list(differences(subject, lengths, LONGER_BY[1:2]))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_text_does_not_see_its_batch_with_the_official_head_dim(wide_artifact: Path, precision: Precision) -> None:
    subject = load(wide_artifact, "embedding", precision, BATCH_TOKENS[-1])
    assert not list(differences(subject, edges(OFFICIAL_HEAD_DIM), LONGER_BY))


@pytest.mark.parametrize("task", TASKS)
def test_a_text_does_not_see_its_batch_at_the_models_limit(artifacts: Callable[[Task], Path], task: Task) -> None:
    """Where there is no room for padding."""
    subject = load(artifacts(task), task, "fp32", BATCH_TOKENS[-1])
    near = (MAX_TOKENS - 17, MAX_TOKENS - 16, MAX_TOKENS - 15, MAX_TOKENS - 2, MAX_TOKENS - 1)
    assert not list(differences(subject, near, [1]))


def test_identical_words_of_the_first_report(artifacts: Callable[[Task], Path]) -> None:
    embedder = Embedder(artifacts("embedding"), precision="fp32", provider="cpu")
    first, second = "word " * 383, "word " * 384
    assert (embedder.encode([first])[0] == embedder.encode([first, second])[0]).all()


@pytest.mark.slow  # minutes: every length
@pytest.mark.parametrize("batch_tokens", BATCH_TOKENS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("task", TASKS)
def test_a_text_does_not_see_its_batch_at_any_length(
    artifacts: Callable[[Task], Path], task: Task, precision: Precision, batch_tokens: int | None
) -> None:
    subject = load(artifacts(task), task, precision, batch_tokens)
    assert not list(differences(subject, range(SHORTEST, LONGEST + 1), LONGER_BY))
