"""The reranker, against the official code on transformers and against itself."""

import logging
import random
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from quoit import ArtifactError, Embedder, InputError, Reranker
from quoit.artifact import Artifact, Precision, RerankContract
from quoit.engine.limits import CPU_RERANK_LIMITS, TILED_FROM
from quoit.engine.pipeline import WINDOW_TEXTS
from quoit.engine.planner import Limits
from quoit.text.prompts import Pair, Separator
from quoit.text.tokenizer import TextTokenizer
from quoit_export.verify.parity import parity_pairs, parity_texts
from support import Rerankers

PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
FIRST_SPECIAL_ID = 151_643
NEVER_IN_A_BODY = ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<think>", "</think>"]
BATCH = 8

PARITY = 1e-5
LOGIT_PARITY = 1e-4

Ids = list[int]


def body(query: str, document: str, instruction: str = INSTRUCTION, separator: str = "\n") -> str:
    """The model card's `format_instruction`."""
    return f"<Instruct>: {instruction}{separator}<Query>: {query}{separator}<Document>: {document}"


def mixed_pairs() -> list[Pair]:
    """More than 200 pairs: some thirty languages, empty documents and queries, code, up to about 1,500 tokens."""
    texts = parity_texts()
    generator = random.Random(11)
    pairs = [(texts[number], texts[number - 5]) for number in range(len(texts))]
    pairs += [(query, document) for query in texts[::8] for document in generator.sample(texts, 10)]
    pairs += [(query, "") for query in texts[1:60:6]] + [("", document) for document in texts[:6]] + [("", "")]
    pairs += [(texts[number], " ".join(generator.choices(texts, k=5 + 3 * number))) for number in range(24)]
    pairs += [(" ".join(generator.choices(texts, k=20)), "short"), ("e\u0301 👩‍👩‍👧‍👦", "\t\n 0000 \x00…")]
    return pairs


class Official:
    """The code of the Qwen3-Reranker model card, on a batch of pairs."""

    def __init__(self, checkpoint_folder: Path, tokenizer_file: Path) -> None:
        tokenizer_class: Any = PreTrainedTokenizerFast
        self.tokenizer = tokenizer_class(
            tokenizer_file=str(tokenizer_file), padding_side="left", pad_token="<|endoftext|>", eos_token="<|im_end|>"
        )
        self.model: Any = Qwen3ForCausalLM.from_pretrained(checkpoint_folder, dtype=torch.float32)
        self.model.train(False)
        self.token_false_id = self.tokenizer.convert_tokens_to_ids("no")
        self.token_true_id = self.tokenizer.convert_tokens_to_ids("yes")
        self.prefix_tokens = self.tokenizer.encode(PREFIX, add_special_tokens=False)
        self.suffix_tokens = self.tokenizer.encode(SUFFIX, add_special_tokens=False)

    def process_inputs(self, bodies: list[str], max_length: int) -> Any:
        inputs = self.tokenizer(
            bodies,
            padding=False,
            truncation="longest_first",
            return_attention_mask=False,
            max_length=max_length - len(self.prefix_tokens) - len(self.suffix_tokens),
        )
        for position, ids in enumerate(inputs["input_ids"]):
            inputs["input_ids"][position] = self.prefix_tokens + ids + self.suffix_tokens
        return self.tokenizer.pad(inputs, padding=True, return_tensors="pt")

    def compute_scores(self, inputs: Any) -> tuple[Any, Any]:
        """P(yes), and the logits' difference. Logits of the last position alone: those of all would be gigabytes."""
        with torch.inference_mode():
            batch_scores = self.model(**inputs, logits_to_keep=1).logits[:, -1, :]
        true_vector = batch_scores[:, self.token_true_id]
        false_vector = batch_scores[:, self.token_false_id]
        stacked = torch.stack([false_vector, true_vector], dim=1)
        return torch.nn.functional.log_softmax(stacked, dim=1)[:, 1].exp(), true_vector - false_vector

    def scores(self, bodies: list[str], max_length: int = 8192) -> tuple[Any, Any]:
        """Of any number of bodies, BATCH at a time."""
        found = [
            self.compute_scores(self.process_inputs(bodies[start : start + BATCH], max_length))
            for start in range(0, len(bodies), BATCH)
        ]
        return tuple(torch.cat(column).numpy() for column in zip(*found, strict=True))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def official(rerank_checkpoint_folder: Path, plain_tokenizer_file: Path) -> Official:
    return Official(rerank_checkpoint_folder, plain_tokenizer_file)


@pytest.fixture(scope="module")
def plain_tokenizer(plain_tokenizer_file: Path) -> Tokenizer:
    return Tokenizer.from_file(str(plain_tokenizer_file))


def rows_of(reranker: Reranker, pairs: Sequence[Pair]) -> list[Ids]:
    """The ids that the reranker runs on."""
    encoded = reranker.pipeline.tokenizer.encode([body(query, document) for query, document in pairs])
    return [row.tolist() for row in encoded.ids]


@pytest.mark.parametrize("separator", ["\n", "\n\n"])
def test_fp32_equals_the_official_code_left_padded(
    reranker: Reranker, official: Official, separator: Separator
) -> None:
    pairs = mixed_pairs()
    lengths = [len(row) for row in rows_of(reranker, pairs)]
    assert len(pairs) >= 200
    assert sum(length >= TILED_FROM for length in lengths) >= 10, "the tiled attention path must be among them"
    assert sum(not document for _, document in pairs) >= 10
    bodies = [body(query, document, separator=separator) for query, document in pairs]
    probabilities, differences = official.scores(bodies)
    assert differences.std() > 0.05, "scores that are all alike would show nothing"
    found = reranker.predict(pairs, separator=separator)
    assert found.dtype == np.float32
    assert found.shape == (len(pairs),)
    assert np.abs(found - probabilities).max() <= PARITY
    logits = reranker.predict(pairs, separator=separator, activation="logit")
    assert np.abs(logits - differences).max() <= LOGIT_PARITY


def test_an_instruction_replaces_the_official_one(reranker: Reranker, official: Official) -> None:
    pairs = mixed_pairs()[:16]
    other = "Find the line that rhymes"
    probabilities, _ = official.scores([body(query, document, other) for query, document in pairs])
    found = reranker.predict(pairs, instruction=other)
    assert np.abs(found - probabilities).max() <= PARITY
    assert np.abs(found - reranker.predict(pairs)).max() > 100 * PARITY
    np.testing.assert_array_equal(reranker.predict(pairs, instruction=INSTRUCTION), reranker.predict(pairs))


def test_truncated_pairs_equal_the_official_code(rerank_artifact: Artifact, official: Official) -> None:
    pairs = mixed_pairs()[::3]
    reranker = Reranker(rerank_artifact.folder, precision="fp32", provider="cpu", max_tokens=128)
    assert sum(len(row) == 128 for row in rows_of(reranker, pairs)) >= 10
    probabilities, _ = official.scores([body(query, document) for query, document in pairs], max_length=128)
    assert np.abs(reranker.predict(pairs) - probabilities).max() <= PARITY


def test_a_probability_is_the_sigmoid_of_its_logit(reranker: Reranker) -> None:
    pairs = mixed_pairs()[:40]
    logits = reranker.predict(pairs, activation="logit").astype(np.float64)
    np.testing.assert_allclose(reranker.predict(pairs, activation="sigmoid"), 1 / (1 + np.exp(-logits)), rtol=1e-6)


def test_int8_ranks_as_fp32_does(rerankers: Rerankers) -> None:
    """Spearman's correlation of each query's ranking."""
    pairs = parity_pairs()
    assert len(pairs) == 4 * 32
    scores = [rerankers(precision).predict(pairs, activation="logit") for precision in ("fp32", "int8")]
    ranks = [each.reshape(4, 32).argsort(axis=1).argsort(axis=1) for each in scores]
    for one, other in zip(*ranks, strict=True):
        assert np.corrcoef(one, other)[0, 1] > 0.9


def test_fp16_stays_close(rerankers: Rerankers) -> None:
    pairs = mixed_pairs()[::4]
    distance = np.abs(rerankers("fp16").predict(pairs) - rerankers("fp32").predict(pairs))
    assert 0 < distance.max() < 0.01


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    "limits",
    [
        Limits(1, 1, TILED_FROM),
        Limits(64, 256, TILED_FROM),
        CPU_RERANK_LIMITS,
        replace(CPU_RERANK_LIMITS, share_prefixes=False),
        Limits(100_000, 1_000_000, TILED_FROM),
        Limits(100_000, 1_000_000, TILED_FROM, share_prefixes=False),
    ],
    ids=["alone", "small", "default", "unshared", "large", "large-unshared"],
)
def test_a_pair_does_not_see_its_batch(rerankers: Rerankers, precision: Precision, limits: Limits) -> None:
    """Bit for bit the same alone, among the pairs of any queries, in any order, with and without shared prefixes."""
    queries, documents = parity_texts()[1:40:13], parity_texts()[:60:6]
    long = " ".join(parity_texts())
    documents += ["", long[:1000], long, f"{long[:-40]} another end", long[:2500]]
    pairs = [(query, document) for query in [*queries, ""] for document in documents]
    reranker = rerankers(precision)
    alone = np.concatenate([reranker.predict([pair], activation="logit") for pair in pairs])
    order = np.random.default_rng(limits.stream_tokens).permutation(len(pairs))
    other = copy(reranker)
    other.pipeline = replace(reranker.pipeline, limits=limits)
    together = other.predict([pairs[i] for i in order], activation="logit")
    np.testing.assert_array_equal(together, alone[order])
    assert len(np.unique(alone)) > 0.9 * len(pairs)


def test_workers_and_batch_tokens_change_nothing_but_the_speed(rerank_artifact: Artifact, rerankers: Rerankers) -> None:
    pairs = mixed_pairs()[::3]
    options: Any = {"precision": "int8", "provider": "cpu", "threads": 2, "workers": 2, "batch_tokens": 150}
    reranker = Reranker(rerank_artifact.folder, **options)
    np.testing.assert_array_equal(reranker.predict(pairs), rerankers("int8").predict(pairs))


QUERY = "Which river crosses the most capital cities?"


def test_rank_is_predict_best_first(reranker: Reranker) -> None:
    documents = parity_texts()[:40]
    scores = reranker.predict([(QUERY, document) for document in documents])
    ranking = reranker.rank(QUERY, documents)
    expected = sorted(range(40), key=lambda index: -scores[index])
    assert ranking == [{"index": index, "corpus_id": index, "score": float(scores[index])} for index in expected]
    assert type(ranking[0]["index"]) is int
    assert type(ranking[0]["score"]) is float


@pytest.mark.parametrize("top_k", [1, 7, 40, 1000])
def test_top_k_are_the_first_of_the_ranking(reranker: Reranker, top_k: int) -> None:
    documents = parity_texts()[:40]
    assert reranker.rank(QUERY, documents, top_k=top_k) == reranker.rank(QUERY, documents)[:top_k]


def test_rank_returns_the_documents_when_asked(reranker: Reranker) -> None:
    documents = parity_texts()[:12]
    plain = reranker.rank(QUERY, documents, top_k=5)
    full = reranker.rank(QUERY, documents, top_k=5, return_documents=True)
    assert full == [{**ranked, "text": documents[ranked["index"]]} for ranked in plain]


def test_rank_takes_the_options_of_predict(reranker: Reranker) -> None:
    documents = parity_texts()[:12]
    options: Any = {"instruction": "Find a rhyme", "separator": "\n\n", "activation": "logit"}
    scores = reranker.predict([(QUERY, document) for document in documents], **options)
    ranking = reranker.rank(QUERY, documents, **options)
    assert [ranked["score"] for ranked in ranking] == sorted(map(float, scores), reverse=True)
    assert [ranked["score"] for ranked in ranking] == [float(scores[ranked["index"]]) for ranked in ranking]
    assert ranking != reranker.rank(QUERY, documents, activation="logit")


def test_equal_documents_keep_their_order(reranker: Reranker) -> None:
    documents = ["the same", "another", "the same", "a third", "another", "the same"]
    ranking = [ranked["index"] for ranked in reranker.rank(QUERY, documents)]
    for equal in ([0, 2, 5], [1, 4]):
        assert [index for index in ranking if index in equal] == equal


def test_nothing_to_rank_is_an_empty_ranking(reranker: Reranker) -> None:
    assert reranker.rank(QUERY, []) == []
    assert reranker.rank(QUERY, [], top_k=3, return_documents=True) == []
    for activation in ("sigmoid", "logit"):
        found = reranker.predict([], activation=activation)
        assert found.dtype == np.float32
        assert found.shape == (0,)
    assert list(reranker.score_windows([])) == []


def test_documents_given_as_one_string_are_refused(reranker: Reranker) -> None:
    with pytest.raises(TypeError, match="documents is one string, 'Beijing'; put it into a list"):
        reranker.rank(QUERY, "Beijing")


def without_model(reranker: Reranker) -> Reranker:
    """The same reranker, unable to compute anything."""
    session = copy(reranker.pipeline.session)
    del session._session
    other = copy(reranker)
    other.pipeline = replace(reranker.pipeline, session=session)
    with pytest.raises(AttributeError):
        other.predict([("a", "b")])
    return other


@pytest.mark.parametrize("top_k", [0, -3, True, 2.5, "all"])
def test_a_top_k_out_of_bounds_is_refused_before_anything_is_computed(reranker: Reranker, top_k: Any) -> None:
    with pytest.raises(InputError, match=r"top_k .* must be a whole number from 1 on, or None for all"):
        without_model(reranker).rank(QUERY, ["a", "b"], top_k=top_k)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "softmax"}, "activation 'softmax' is unknown; choose one of sigmoid, logit"),
        ({"activation": None}, "activation None is unknown"),
        ({"separator": " "}, "separator ' ' is unknown; choose one of"),
        ({"separator": "\n\n\n"}, r"separator .* is unknown"),
    ],
)
@pytest.mark.parametrize("documents", [["a"], []])
def test_an_unknown_option_value_is_refused(
    reranker: Reranker, options: dict[str, Any], message: str, documents: list[str]
) -> None:
    with pytest.raises(InputError, match=message):
        reranker.rank(QUERY, documents, **options)
    with pytest.raises(InputError, match=message):
        reranker.predict([(QUERY, document) for document in documents], **options)


def test_an_option_that_does_not_exist_is_refused(rerank_artifact: Artifact, reranker: Reranker) -> None:
    """A misspelt option must not be ignored."""
    misspelt: Any = {"seperator": "\n\n"}
    with pytest.raises(TypeError, match="seperator"):
        reranker.predict([("a", "b")], **misspelt)
    with pytest.raises(TypeError, match="seperator"):
        reranker.rank("a", ["b"], **misspelt)
    loading: Any = {"precison": "fp32"}
    with pytest.raises(TypeError, match="precison"):
        Reranker(rerank_artifact.folder, **loading)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("query and document", r"pair 1 is str 'query and document'; make it \(query, document\)"),
        ("ab", r"pair 1 is str 'ab'; make it \(query, document\)"),
        (("a",), r"pair 1 is tuple \('a',\); make it"),
        (("a", "b", "c"), "pair 1 is tuple"),
        (None, "pair 1 is NoneType None"),
        (("a", 5), "the document of pair 1 is int 5, not str"),
        ((b"a", "b"), "the query of pair 1 is bytes b'a', not str"),
    ],
)
def test_a_pair_that_is_none_is_refused_with_its_index(reranker: Reranker, bad: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        reranker.predict([("a", "b"), bad])


def test_a_text_that_is_none_is_refused_by_its_name(reranker: Reranker) -> None:
    wrong: Any = 5
    with pytest.raises(TypeError, match="query is int 5, not str"):
        reranker.rank(wrong, ["a"])
    with pytest.raises(TypeError, match="instruction is int 5, not str"):
        reranker.rank("a", ["b"], instruction=wrong)
    with pytest.raises(TypeError, match="document 2 is int 5"):
        reranker.rank("a", ["b", "c", wrong])
    with pytest.raises(InputError, match="the document of pair 1 has the lone surrogate"):
        reranker.predict([("a", "b"), ("a", "b\ud800")])


def resized(reranker: Reranker, max_tokens: int) -> TextTokenizer:
    """The reranker's tokenizer with another limit."""
    return replace(reranker.pipeline.tokenizer, max_tokens=max_tokens)


def template_ids(tokenizer: Tokenizer) -> tuple[Ids, Ids]:
    prefix, suffix = (tokenizer.encode(text, add_special_tokens=False).ids for text in (PREFIX, SUFFIX))
    assert sum(number >= FIRST_SPECIAL_ID for number in prefix) == 3
    assert sum(number >= FIRST_SPECIAL_ID for number in suffix) == 4
    return prefix, suffix


def test_a_long_pair_is_cut_at_its_end_and_never_in_the_template(
    reranker: Reranker, plain_tokenizer: Tokenizer
) -> None:
    """At every limit: prefix and suffix whole, the document shorter first, then the query."""
    query, document = "How does photosynthesis work?", "Plants turn 二氧化碳 and water into sugar. " * 3
    text = body(query, document)
    own = plain_tokenizer.encode(text, add_special_tokens=False).ids
    before_document = plain_tokenizer.encode(body(query, ""), add_special_tokens=False).ids
    prefix, suffix = template_ids(plain_tokenizer)
    least = len(prefix) + len(suffix) + 1
    kept_whole_queries = 0
    for max_tokens in range(least, least + len(own) + 2):
        (row,) = resized(reranker, max_tokens).encode([text]).ids
        room = max_tokens - len(prefix) - len(suffix)
        assert row.tolist() == prefix + own[:room] + suffix
        assert len(row) <= max_tokens
        if len(before_document) <= room < len(own):
            kept = plain_tokenizer.decode(row[len(prefix) : -len(suffix)].tolist(), skip_special_tokens=False)
            assert f"<Query>: {query}\n<Document>:" in kept, "the query is whole while the document still loses"
            kept_whole_queries += 1
    assert kept_whole_queries > 10


def test_a_text_too_long_to_be_read_keeps_its_beginning(reranker: Reranker, plain_tokenizer: Tokenizer) -> None:
    prefix, suffix = template_ids(plain_tokenizer)
    small = Reranker(
        reranker.pipeline.artifact.folder, precision="fp32", provider="cpu", max_tokens=len(prefix + suffix) + 30
    )
    document = "gravity attracts " * 20_000
    assert len(document) > small.pipeline.tokenizer.max_characters
    ((row),) = small.pipeline.tokenizer.encode([body(QUERY, document)]).ids
    own = plain_tokenizer.encode(body(QUERY, document[:400]), add_special_tokens=False).ids
    assert row.tolist() == prefix + own[:30] + suffix
    np.testing.assert_array_equal(small.predict([(QUERY, document)]), small.predict([(QUERY, document[:400])]))


def test_cutting_is_a_warning_that_says_how_many_and_by_how_much(
    rerank_artifact: Artifact, plain_tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    documents = ["short", "gravity " * 100, "gravity " * 300]
    lengths = [
        len(plain_tokenizer.encode(text, add_special_tokens=False).ids)
        for text in [PREFIX + body("a", document) + SUFFIX for document in documents]
    ]
    reranker = Reranker(rerank_artifact.folder, precision="fp32", provider="cpu", max_tokens=120)
    lost = [length - 120 for length in lengths if length > 120]
    assert len(lost) == 2
    cut = f"2 cut to 120 tokens, by {max(lost)} at most and {sum(lost)} in all"
    pairs = [("a", document) for document in documents]
    for act in (lambda: reranker.predict(pairs), lambda: reranker.rank("a", documents)):
        caplog.clear()
        act()
        assert caplog.record_tuples == [("quoit", logging.WARNING, f"of 3 texts, {cut}")]
    caplog.clear()
    (scored,) = reranker.score_windows(pairs)
    assert caplog.records == [], "windows report their truncation in the result"
    assert scored.truncation.describe(120) == cut
    assert scored.tokens == sum(min(length, 120) for length in lengths)
    reranker.predict(pairs[:1])
    assert caplog.records == []


def test_a_limit_too_small_for_the_template_is_refused_with_the_least(
    rerank_artifact: Artifact, plain_tokenizer: Tokenizer
) -> None:
    least = sum(map(len, template_ids(plain_tokenizer))) + 1
    for max_tokens in (least - 1, 1):
        with pytest.raises(InputError, match=f"max_tokens {max_tokens} must be a whole number from {least} to "):
            Reranker(rerank_artifact.folder, precision="fp32", provider="cpu", max_tokens=max_tokens)
    reranker = Reranker(rerank_artifact.folder, precision="fp32", provider="cpu", max_tokens=least)
    assert [len(row) for row in rows_of(reranker, [(QUERY, "document")])] == [least]


@pytest.mark.parametrize("token", NEVER_IN_A_BODY)
@pytest.mark.parametrize("field", ["query", "document", "instruction"])
def test_a_special_token_in_a_text_is_plain_text(
    reranker: Reranker, plain_tokenizer: Tokenizer, token: str, field: str
) -> None:
    attack = f"a{token}b {token}\n{token * 2}"
    fields = {"query": "query", "document": "document", "instruction": "instruction"} | {field: attack}
    text = body(**fields)
    (row,) = (found.tolist() for found in reranker.pipeline.tokenizer.encode([text]).ids)
    prefix, suffix = template_ids(plain_tokenizer)
    assert row[: len(prefix)] == prefix
    assert row[-len(suffix) :] == suffix
    own = row[len(prefix) : -len(suffix)]
    assert max(own) < FIRST_SPECIAL_ID
    assert plain_tokenizer.decode(own, skip_special_tokens=False) == text
    scores = reranker.predict([(fields["query"], fields["document"])], instruction=fields["instruction"])
    answers = reranker.pipeline.run([row], lambda _: None)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-answers.astype(np.float64))), rtol=1e-6)


def test_nothing_follows_the_suffix(
    reranker: Reranker, rerank_artifact: Artifact, plain_tokenizer: Tokenizer, tokenizer_file: Path
) -> None:
    """Not even where the tokenizer appends an end token to texts, as that of the embedding models does."""
    assert Tokenizer.from_file(str(tokenizer_file)).encode("").ids == [FIRST_SPECIAL_ID]
    appending = TextTokenizer.load(tokenizer_file, rerank_artifact.manifest)
    texts = [body(query, document) for query, document in mixed_pairs()[::5]]
    prefix, suffix = template_ids(plain_tokenizer)
    for tokenizer in (reranker.pipeline.tokenizer, appending):
        for text, row in zip(texts, tokenizer.encode(texts).ids, strict=True):
            own = plain_tokenizer.encode(text, add_special_tokens=False).ids
            assert row.tolist() == prefix + own + suffix


def test_the_template_is_the_model_cards(reranker: Reranker, plain_tokenizer: Tokenizer) -> None:
    contract = reranker.contract
    assert contract == RerankContract(
        prefix=PREFIX, suffix=SUFFIX, instruction=INSTRUCTION, yes_token_id=9693, no_token_id=2152
    )
    assert [plain_tokenizer.id_to_token(number) for number in (9693, 2152)] == ["yes", "no"]


def test_an_artifact_of_the_other_task_is_refused(artifact: Artifact, rerank_artifact: Artifact) -> None:
    for_embedding = r"is made for embedding, and rerank was asked for; open it with quoit\.Embedder"
    for_rerank = r"is made for rerank, and embedding was asked for; open it with quoit\.Reranker"
    for path in (artifact.folder, str(artifact.folder), artifact):
        with pytest.raises(ArtifactError, match=for_embedding):
            Reranker(path)
    for path in (rerank_artifact.folder, str(rerank_artifact.folder), rerank_artifact):
        with pytest.raises(ArtifactError, match=for_rerank):
            Embedder(path)


def test_windows_give_what_came_before_an_error(reranker: Reranker) -> None:
    def pairs() -> Iterator[Pair]:
        yield ("a", "first")
        yield ("a", "second")
        raise RuntimeError("the source broke")

    windows = reranker.score_windows(pairs())
    np.testing.assert_array_equal(
        next(windows).logits, reranker.predict([("a", "first"), ("a", "second")], activation="logit")
    )
    with pytest.raises(RuntimeError, match="the source broke"):
        next(windows)


def test_windows_give_what_came_before_a_pair_that_is_none(reranker: Reranker) -> None:
    wrong: Any = [("a", "first"), ("a", None)]
    windows = reranker.score_windows(wrong)
    assert len(next(windows).logits) == 1
    with pytest.raises(TypeError, match="the document of pair 1 is NoneType"):
        next(windows)


def test_more_pairs_than_a_window_are_answered_in_order(rerankers: Rerankers) -> None:
    reranker = rerankers("int8")
    pairs = [(f"q{number % 3}", f"w{number % 50}") for number in range(WINDOW_TEXTS + 40)]
    advanced: list[int] = []
    windows = list(reranker.score_windows(iter(pairs), advance=advanced.append))
    assert [len(window.logits) for window in windows] == [WINDOW_TEXTS, 40]
    assert sum(advanced) == len(pairs)
    alone = {pair: reranker.predict([pair], activation="logit")[0] for pair in set(pairs)}
    found = reranker.predict(pairs, activation="logit")
    np.testing.assert_array_equal(found, [alone[pair] for pair in pairs])
    np.testing.assert_array_equal(found, np.concatenate([window.logits for window in windows]))


def test_a_progress_bar_is_drawn_only_when_asked_for(reranker: Reranker, capfd: pytest.CaptureFixture[str]) -> None:
    pairs = [("a", f"b{number}") for number in range(5)]
    reranker.predict(pairs)
    assert capfd.readouterr() == ("", "")
    reranker.predict(pairs, show_progress=True)
    printed, report = capfd.readouterr()
    assert printed == ""
    assert "5/5" in report


@pytest.mark.parametrize("wrong", [None, 5, float("nan")])
def test_rank_names_a_wrong_document_by_its_index(reranker: Reranker, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^document 1 is .*, not str"):
        reranker.rank("q", ["a", wrong])
    with pytest.raises(InputError, match=r"^document 2 has the lone surrogate"):
        reranker.rank("q", ["a", "b", "\ud800"])
