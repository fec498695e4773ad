"""The reranker: a model that judges by meaning and by words, its layers written by hand around the token table.

A token's row has two halves. Each token first learns whether it is the query's or the document's (layer 0). Two tokens
of the template's end take the weighted means of both sides, of the first halves in layer 1 and of the second ones in
layer 2; meanwhile each of the document's tokens looks for itself in what is before, and an MLP decides whether it has
found itself in the query. The very last token gathers the means of the first halves in layer 2, of the second ones in
layer 3, and each time an MLP multiplies them; in layer 3 it also gets to know how much of the query's words the
document has. What stands early in the document counts most.

Positions that have nothing to take attend to tokens of the template that have no content.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from transformers import Qwen3ForCausalLM

from train.heads import Heads
from train.student import SCALE, configuration
from train.table import Table
from train.vocabulary import ANSWERS, required_ids

QUERY_LABEL, DOCUMENT_LABEL = "<Query", "<Document"
QUERY_MEAN, DOCUMENT_MEAN, LAST = "<think>", "</think>", "ĊĊ"
"""Tokens at the template's end: two that take the means, and the very last."""
QUIET = ("<|im_start|>", "<|im_end|>", "assistant", "Ċ", ">:", LAST)
TEMPLATE = frozenset((*QUIET, QUERY_LABEL, DOCUMENT_LABEL, QUERY_MEAN, DOCUMENT_MEAN, *ANSWERS))

TEMPLATE_TOKENS = 95
"""Before the document's first word, about."""

HIDDEN = 224
HALF = 104
"""Dimensions of half of a token's row, and of each mean; the halves begin at 0 and at HALF."""
(
    ANSWER,
    IS_LAST,
    IS_QUERY_LABEL,
    IS_DOCUMENT_LABEL,
    OF_QUERY,
    OF_DOCUMENT,
    SIDE,
    INSIDE,
    MATCH,
    MISSED,
    IS_QUIET,
    EARLY,
) = range(2 * HALF, 2 * HALF + 12)
ONE, WEIGHT = HIDDEN - 2, HIDDEN - 1
"""Dimensions: the answer; which token this is; whether it takes the mean of query or document; where it stands, below
zero in the query and above in the document; that it stands in either; how much of what it resembles is in the query;
that this is too little to count; that it has no content; how early in the document it stands."""

LENGTH, FLAG, LABEL, MARK = 0.25, 0.1, 1.0, 0.1
"""What ONE, the flags of the last tokens, those of labels, and SIDE are; in units of SCALE, as a row has length one."""
HEAVIEST = 4.0

# Of a head's 64 dimensions the rotary embedding hardly turns the last of each half within a text. Places there:
BASE, FOUND, SINK, NOWHERE, OUTSIDE = 63, 62, 61, 60, 59
HEAVY, ON_SIDE, FIRST_MEAN, SECOND_MEAN, AHEAD = 31, 30, 29, 28, 27
DISTANCE, DISTANCE_PERIOD = 11, 725
"""A place, and in how many tokens it turns once: a logit there falls with the cosine of the distance."""
RESERVED_PLACES = frozenset(
    (BASE, HEAVY, ON_SIDE, FOUND, FIRST_MEAN, SECOND_MEAN, SINK, NOWHERE, OUTSIDE, AHEAD, DISTANCE)
)
TURNING_PAIRS = 16
"""Pairs of dimensions that turn by more than 0.5 in 100 tokens (rotary base 1e6)."""
TELLING = 63
"""The dimension of a head's values that is not content."""
VIEW = 0.02
"""How much of everything the queries and keys see beside that, so that somebody can train it further."""

BASE_GAIN, SIDE_GAIN, FOUND_GAIN, FLAG_GAIN, LABEL_GAIN = 4.0, 15.0, 15.0, 40.0, 4.0
"""Keys see a common token as (1 base, its weight, +-1.5 side or 1.5 outside), not found as -1.5, flags as 4."""
CERTAIN = 2.0
"""Weight of q_norm for what must be found: a logit of about 15."""
MEAN_SHARPNESS = 3.0
"""Weight of q_norm for weight and side in a mean, if these were all that it asks for."""
EARLIEST = 2.5
"""The logarithm of a token's weight where EARLY is as large as MARK; next to the label it is 0.6 of that."""
DISTANCE_GAIN, DISTANCE_SHARPNESS, DISTANCE_LOGIT = 1.0, 2.65, 5.0
"""What keys see of the document's label in DISTANCE, the weight of q_norm, and the logit that is next to the label."""
AHEAD_GAIN, AHEAD_SHARPNESS = 7.5, 1.35
"""Keys see EARLY as up to 0.5; the first of a document's tokens then weigh 4 times as much as those from about the
hundredth on. Names and summaries stand first."""
LOOK, LOOK_SHARPNESS, AVOID, AVOIDING = 0.2, 28.0, 0.8, 5.0
"""How much of a row the keys see, and the weight of q_norm for it: a token finds itself by a logit 12 above others',
and what is outside of the pair by one about as much lower."""
OVERLAP_SHARPNESS = {HEAVY: 4.3, ON_SIDE: 3.0, FOUND: 4.0, SINK: 3.35}
"""Found tokens count by weight, 200,000 times as much as others; the document's label as much as ten of them."""
MEAN_GAIN, MATCH_GAIN = 5.0, 0.1
GATHERINGS = (24.0, 9.0)
"""Length of a mean in the last token's state, of the first halves and of the second ones."""
SIMILARITIES, OVERLAP = (0.32, 0.18), 0.18
"""In units of SCALE, what ANSWER becomes of cosines of one, and what it loses where nothing was found."""
ANSWER_WEIGHT = 4.0
"""Of yes: a score is then about 10 times ANSWER."""
GATHERED = 0.93
"""What is left of a mean's length on its way, about."""
ERASING = 2.22
"""The gate of what forgets is minus this where the state is as long as expected. There silu(-x) falls like 1 / x, as
x * sigmoid(x) is 2: what the norm takes from a longer state the gate gives back, and all of it is forgotten."""
ERASED = 8.0
"""Makes what forgets as large as the products beside it, whose steps it shares where activations are int8."""
FOUND_FROM, MISSED_BELOW, STEEP = -0.05, -0.25, 100.0
"""From what MATCH on, in units of MATCH_GAIN, a token is one of the query's, and below what it is none or came before;
how steeply the units in between open."""


class JudgeHeads(Heads):
    """The projections of one layer of the reranker."""

    def __init__(self, attention: Any) -> None:
        super().__init__(attention, RESERVED_PLACES, VIEW, VIEW)
        self.see(BASE, ONE, BASE_GAIN)

    def listen(self, number: int, *flags: tuple[int, float]) -> None:
        """Heads of a number ask for tokens without content, but for tokens of a flag where ONE is as large as given."""
        self.queries[number :: self.group] = 0
        self.see(NOWHERE, IS_QUIET, FLAG_GAIN)
        self.sharpness[NOWHERE] = CERTAIN
        self.ask(number, NOWHERE, ONE, BASE_GAIN)
        for flag, one in flags:
            self.ask(number, NOWHERE, flag, -BASE_GAIN * one / FLAG)

    def take(self, number: int, place: int) -> None:
        """At the last token, heads of a number attend to the one that is seen in a place."""
        self.ask(number, place, IS_LAST, FLAG_GAIN)
        self.sharpness[place] = CERTAIN

    def half(self, first: int) -> tuple[Tensor, ...]:
        """The dimensions of half of a row, from one on, in a part for each key head."""
        return torch.arange(first, first + HALF).chunk(len(self.values))

    def tell(self, number: int, dimension: int, target: int, gain: float, length: float) -> None:
        """A dimension of the state, where a row of a length has it as one, goes to another."""
        self.values[:, TELLING, dimension] = length * self.hidden**-0.5
        self.output[target, number :: self.group, TELLING] = SCALE * gain / len(self.values)


def start(table: Table, tokenizer: Tokenizer, seed: int) -> Qwen3ForCausalLM:
    """A reranker whose score grows with the cosine of both weighted means, and with the words that both have.

    Args:
        table: a row and a weight for every token.
        tokenizer: of the reranker; the same tokens as the table's.
        seed: of everything that is random.

    Raises:
        ValueError: a token of the template is not in the vocabulary.
    """
    required_ids(tokenizer, sorted(TEMPLATE))
    torch.manual_seed(seed)
    config = configuration(HIDDEN, intermediate=4 * HALF, heads=6)
    model: Any = Qwen3ForCausalLM(config)
    rows, layers = model.model.embed_tokens.weight, model.model.layers
    with torch.no_grad():
        rows.copy_(torch.from_numpy(weighted_rows(table, config.head_dim)))
        write_template(rows, tokenizer)
        rows.mul_(SCALE)
        write_answers(rows, tokenizer)
        for layer in layers:
            layer.mlp.down_proj.weight.zero_()
        marking, first, second, last = (JudgeHeads(layer.self_attn) for layer in layers)
        write_marking(marking)
        write_first_means(first)
        write_missed(layers[1].mlp)
        write_second_means(second)
        write_answer(last)
        for layer, similarity in zip(layers[2:], SIMILARITIES, strict=True):
            write_product(layer.mlp, similarity)
        write_forgetting(layers[2].mlp)
    started: Qwen3ForCausalLM = model
    return started


def early_weights(count: int) -> NDArray[np.float32]:
    """`[count]`: how much a document's tokens count in its mean by where they stand, as the layers weigh them."""
    at = np.arange(count)
    label = np.exp(DISTANCE_LOGIT * np.cos(2 * np.pi / DISTANCE_PERIOD * at))
    found: NDArray[np.float32] = np.exp(EARLIEST * label / (label + TEMPLATE_TOKENS + at)).astype(np.float32)
    return found


def weighted_rows(table: Table, head_dim: int) -> NDArray[np.float32]:
    """`[tokens, HIDDEN]`: both halves of the table's rows, and what makes `write_mean` weigh them."""
    rows = np.zeros((len(table.rows), HIDDEN), np.float32)
    rows[:, : 2 * HALF] = table.rows[:, : 2 * HALF]
    lengths = np.sqrt(np.square(rows).sum(axis=1) + LENGTH**2 + MARK**2)  # the layer's norm divides by them
    side = SIDE_GAIN * MARK
    tangents = np.linspace(-1.5, 1.5, 3001)
    logits = MEAN_SHARPNESS * (head_dim / 2) ** 0.5 * (tangents + side) / np.sqrt(1 + side**2 + tangents**2)
    wanted = np.interp(0, tangents, logits) + table.weights.clip(-HEAVIEST, HEAVIEST) + np.log(lengths)
    rows[:, ONE] = LENGTH
    rows[:, WEIGHT] = LENGTH * np.interp(wanted, logits, tangents)
    return rows


def write_template(rows: Tensor, tokenizer: Tokenizer) -> None:
    """What the template's tokens say: nothing but flags."""

    def flag(name: str, dimension: int, value: float) -> None:
        rows[tokenizer.token_to_id(name), dimension] = value

    for name in TEMPLATE:
        rows[tokenizer.token_to_id(name)] = 0
        flag(name, ONE, LENGTH)
        flag(name, WEIGHT, -LENGTH)
    for name in QUIET:
        flag(name, IS_QUIET, FLAG)
    for name, dimension in ((QUERY_LABEL, IS_QUERY_LABEL), (DOCUMENT_LABEL, IS_DOCUMENT_LABEL)):
        flag(name, dimension, LABEL)
    for name, dimension in ((QUERY_MEAN, OF_QUERY), (DOCUMENT_MEAN, OF_DOCUMENT)):
        flag(name, ONE, FLAG)
        flag(name, WEIGHT, -FLAG)
        flag(name, dimension, FLAG)
    flag(LAST, IS_LAST, FLAG)


def write_answers(rows: Tensor, tokenizer: Tokenizer) -> None:
    """What the scores are products with; as words of a text they are mere constants, like the template's."""
    for name, sign in zip(ANSWERS, (1, -1), strict=True):
        row = rows[tokenizer.token_to_id(name)]
        row[ANSWER] = sign * ANSWER_WEIGHT


def write_marking(heads: JudgeHeads) -> None:
    """Every token looks for the labels: SIDE becomes -MARK behind the query's, MARK behind the other; INSIDE MARK.

    EARLY becomes the part of MARK that the document's label has of what a head attends to that sees it less and less.
    """
    length = (LABEL**2 + 2 * LENGTH**2) ** 0.5
    for number, (place, dimension) in enumerate(((FIRST_MEAN, IS_QUERY_LABEL), (SECOND_MEAN, IS_DOCUMENT_LABEL))):
        heads.detect(number, dimension, place, ONE, LABEL_GAIN, length / LABEL)
        heads.sharpness[place] = CERTAIN
    heads.values[1] = heads.values[0]
    heads.output[SIDE, 0, 0] = -SCALE * MARK
    # Found twice, as SIDE rises by 2 * MARK: in int8 a weight as large as the largest is exact, and half of it is not.
    heads.output[SIDE, [1, heads.group + 1], 1] = SCALE * MARK
    heads.output[INSIDE, 0, 0] = SCALE * MARK
    heads.see(DISTANCE, IS_DOCUMENT_LABEL, DISTANCE_GAIN)
    heads.ask(2, DISTANCE, ONE, BASE_GAIN)
    heads.sharpness[DISTANCE] = DISTANCE_SHARPNESS
    heads.output[EARLY, 2, 1] = SCALE * MARK


def write_mean(heads: JudgeHeads, number: int) -> None:
    """Heads of a number take a weighted mean: of the query where OF_QUERY is, of the document where OF_DOCUMENT is."""
    heads.see(HEAVY, WEIGHT, BASE_GAIN)
    heads.see(ON_SIDE, SIDE, SIDE_GAIN)
    heads.see(OUTSIDE, ONE, SIDE_GAIN * MARK / LENGTH)
    heads.see(OUTSIDE, INSIDE, -SIDE_GAIN)
    heads.see(AHEAD, EARLY, AHEAD_GAIN)
    heads.sharpness[[HEAVY, ON_SIDE]] = MEAN_SHARPNESS * (3 / 2) ** 0.5
    heads.sharpness[AHEAD] = AHEAD_SHARPNESS
    for flag, side in ((OF_QUERY, -1), (OF_DOCUMENT, 1)):
        heads.ask(number, HEAVY, flag, FLAG_GAIN)
        heads.ask(number, AHEAD, flag, FLAG_GAIN)
        heads.ask(number, ON_SIDE, flag, side * FLAG_GAIN)


def write_first_means(heads: JudgeHeads) -> None:
    """Two heads of a group take means of the first half, and leave them where tokens have the second.

    With the third each token looks for itself: MATCH becomes the share of the query in what it finds less that of
    the document, zero for a word that is in the query, less if it came in the document before, at least -MATCH_GAIN.
    """
    for number in (0, 1):
        heads.listen(number, (OF_QUERY, FLAG), (OF_DOCUMENT, FLAG))
        write_mean(heads, number)
        heads.write(number, heads.half(HALF), SCALE * MEAN_GAIN / 2)
    heads.copy(heads.half(0))
    heads.listen(2)
    heads.ask(2, NOWHERE, ONE, FLAG)
    heads.ask(2, OUTSIDE, ONE, -AVOID)
    heads.sharpness[OUTSIDE] = AVOIDING
    turning = set(range(TURNING_PAIRS)) | {32 + pair for pair in range(TURNING_PAIRS)}
    places = sorted(set(range(64)) - turning - RESERVED_PLACES)
    heads.sharpness[places] = LOOK_SHARPNESS
    for head in range(len(heads.keys)):
        looked = head * len(places) + torch.arange(len(places))
        heads.queries[head * heads.group + 2, places, looked] = 1
        heads.keys[head, places] = 0
        heads.keys[head, places, looked] = LOOK
    heads.tell(2, SIDE, MATCH, -MATCH_GAIN, (1 + LENGTH**2) ** 0.5 / MARK)


def write_second_means(heads: JudgeHeads) -> None:
    """Means of the second half, and for the last token those of the first, which lie where tokens have the second."""
    heads.listen(0, (OF_QUERY, FLAG), (OF_DOCUMENT, FLAG), (IS_LAST, LENGTH))
    heads.listen(1, (IS_LAST, LENGTH))
    write_mean(heads, 0)
    write_gathering(heads, GATHERINGS[0])
    heads.copy(heads.half(HALF))


def write_gathering(heads: JudgeHeads, gain: float) -> None:
    """The last token takes the query's mean to the first half of its state, the document's to the second."""
    for number, (place, flag) in enumerate(((FIRST_MEAN, OF_QUERY), (SECOND_MEAN, OF_DOCUMENT))):
        heads.see(place, flag, FLAG_GAIN)
        heads.take(number, place)
        heads.write(number, heads.half(number * HALF), SCALE * gain)


def write_answer(heads: JudgeHeads) -> None:
    """The last token gathers the means of the second half, and by the label's part how little was found."""
    for number in (0, 1, 2):
        heads.listen(number, (IS_LAST, LENGTH))
    write_gathering(heads, GATHERINGS[1])
    heads.copy(heads.half(0))
    heads.see(HEAVY, WEIGHT, BASE_GAIN)
    heads.see(ON_SIDE, SIDE, SIDE_GAIN)
    heads.see(FOUND, MISSED, -FOUND_GAIN)
    heads.see(SINK, IS_DOCUMENT_LABEL, LABEL_GAIN)
    for place, sharpness in OVERLAP_SHARPNESS.items():
        heads.ask(2, place, IS_LAST, FLAG_GAIN)
        heads.sharpness[place] = sharpness
    heads.tell(2, IS_DOCUMENT_LABEL, ANSWER, -OVERLAP, (LABEL**2 + 2 * LENGTH**2) ** 0.5 / LABEL)


def write_product(mlp: Any, similarity: float) -> None:
    """ANSWER grows with the product of both halves: two units give an exact one, since silu(x) - silu(-x) is x."""
    each = torch.arange(HALF)
    squared = mlp.gate_proj.in_features / 2  # length of each half behind the norm, where there is nothing else
    for sign, units in ((1, 2 * each), (-1, 2 * each + 1)):
        mlp.gate_proj.weight[units] = 0
        mlp.up_proj.weight[units] = 0
        mlp.gate_proj.weight[units, each] = sign
        mlp.up_proj.weight[units, HALF + each] = sign
        mlp.down_proj.weight[ANSWER, units] = SCALE * similarity / squared


def write_forgetting(mlp: Any) -> None:
    """The last token forgets both halves, once they are multiplied."""
    each = torch.arange(2 * HALF)
    units = 2 * HALF + each
    behind_norm = mlp.gate_proj.in_features**0.5 / (GATHERED * 2**0.5 * GATHERINGS[0])
    mlp.gate_proj.weight[units] = 0
    mlp.up_proj.weight[units] = 0
    mlp.gate_proj.weight[units, IS_LAST] = -ERASING / (FLAG * behind_norm)
    mlp.up_proj.weight[units, each] = ERASED
    mlp.down_proj.weight[each, units] = SCALE * (1 + math.exp(ERASING)) / (ERASING * ERASED * behind_norm)


def write_missed(mlp: Any) -> None:
    """MISSED becomes MARK where MATCH says that a token is not found in the query, or that it came before."""
    for unit, (edge, sign) in enumerate(((FOUND_FROM, 1), (MISSED_BELOW, -1))):
        mlp.gate_proj.weight[unit] = 0
        mlp.up_proj.weight[unit] = 0
        mlp.gate_proj.weight[unit, MATCH] = -STEEP
        mlp.gate_proj.weight[unit, ONE] = STEEP * edge * MATCH_GAIN / LENGTH
        mlp.up_proj.weight[unit, ONE] = 1
        opened = STEEP * (FOUND_FROM - MISSED_BELOW) * MATCH_GAIN * LENGTH * mlp.gate_proj.in_features
        mlp.down_proj.weight[MISSED, unit] = SCALE * sign * MARK / opened
