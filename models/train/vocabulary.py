"""A byte-level BPE vocabulary of 16,384 tokens for the small models, inside Qwen3's own tokenizer set-up.

Splitting, normalisation, added tokens and the end token are those of the official checkpoints; only the merges
are learned anew, since 151,669 rows would be most of a small model.
"""

import re
from collections.abc import Iterator, Sequence

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from quoit.text.prompts import DEFAULT_TASK, INSTRUCTION_TEMPLATE, RERANK_PREFIX, RERANK_SUFFIX, render_pairs
from qwen3_tokenizer import PLAIN_ADDED_TOKENS, SPECIAL_TOKENS, assemble, plain
from train.pairs import ENGLISH, Pair

VOCABULARY = 16_384
ANSWERS = ("yes", "no")
ADDED_TOKEN = re.compile("|".join(map(re.escape, SPECIAL_TOKENS + PLAIN_ADDED_TOKENS)))
TRANSLATED_SHARE = 3
"""Of so many translated pairs one counts: most tokens should be English words."""
TEMPLATE_WEIGHT = 2_000
"""How often the prompts stand in the corpus, so that their words are single tokens."""


def texts(pairs: list[Pair]) -> Iterator[str]:
    """What the vocabulary is learned from."""
    (pair_template,) = render_pairs([("", "")], DEFAULT_TASK, "\n")
    prompt = INSTRUCTION_TEMPLATE.format(instruction=DEFAULT_TASK)
    for _ in range(TEMPLATE_WEIGHT):
        yield from (prompt, pair_template, *ADDED_TOKEN.split(RERANK_PREFIX + RERANK_SUFFIX), *ANSWERS)
    for number, pair in enumerate(pairs):
        if pair.source in ENGLISH or number % TRANSLATED_SHARE == 0:
            yield pair.query
            yield pair.document
        if pair.source == "wordnet":
            yield from (form for word in pair.query.split(", ") for form in (word, f" {word}"))


def learn(pairs: list[Pair]) -> BPE:
    """The vocabulary and merges, with room left for the added tokens."""
    size = VOCABULARY - len(SPECIAL_TOKENS) - len(PLAIN_ADDED_TOKENS)
    trainer = BpeTrainer(vocab_size=size, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    tokenizer = plain(BPE())
    tokenizer.train_from_iterator(texts(pairs), trainer)
    learned: BPE = tokenizer.model
    return learned


def build(learned: BPE, *, end_token: bool) -> Tokenizer:
    """The tokenizer of a small model; for embedding with the end token.

    Raises:
        ValueError: it is not of VOCABULARY tokens, or an answer of the reranker is not one token.
    """
    tokenizer = assemble(learned, end_token=end_token)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(f"{tokenizer.get_vocab_size()} tokens, not {VOCABULARY}; the corpus is too small")
    required_ids(tokenizer, ANSWERS)
    return tokenizer


def required_ids(tokenizer: Tokenizer, names: Sequence[str]) -> list[int]:
    """The ids of tokens that a model cannot do without.

    Raises:
        ValueError: some are no tokens.
    """
    known = tokenizer.get_vocab()
    if missing := [name for name in names if name not in known]:
        raise ValueError(f"{missing} are no tokens of the vocabulary; raise TEMPLATE_WEIGHT")
    return [known[name] for name in names]
