"""The small Qwen3 models: their numbers, a start that already means something, and their files.

The first layer starts by telling a prompt's task from the text behind it; the others start as an average: every
position attends to all before it but the task, by their weights, and copies a third of the hidden dimensions each, so
that the last token's state is the weighted mean of the text's rows. Training begins there instead of at noise.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3Model

from qwen3_tokenizer import END_TOKEN
from random_checkpoint import write_json, write_rerank_template, write_sentence_transformers_files
from train.heads import Heads
from train.table import RESERVED, Table
from train.vocabulary import VOCABULARY, required_ids

HIDDEN = 384
LAYERS = 4
MAX_TOKENS = 1_024
CONTENT = HIDDEN - RESERVED
ONE, WEIGHT, INSTRUCT, QUERY, TASK = range(CONTENT, HIDDEN)
"""Dimensions of the hidden state that no content is in: a constant, what tells a token's weight, the labels before and
behind the task of a query's prompt, and whether a token stands in that task."""
LABELS = ("Instruct", "Query")
"""As a text's or line's first word; behind a space they are other tokens."""
SCALE = 16.0
"""Length of a token's row, so that its entries are about one. The norms make the layers indifferent to it, but not the
optimizers: next to larger states, what a step of theirs adds to them is smaller."""
LENGTH, LABEL, MARK = 0.25, 1.0, 2.0
"""Of the constant, of what marks a label, and of TASK; in units of SCALE, as all that follows."""
END_LENGTH = 0.1
"""Of the constant in the end token's row, which has nothing else."""
HEAVIEST = 4.0
"""Logarithms of weights are cut to this."""
LEAST = 5.0
"""A label's weight is that of a token whose key is (1, -LEAST)."""
SHARPNESS = 0.6
"""Weight of q_norm where a layer starts as a weighted mean: a logit is at most head_dim ** 0.5 times as much."""
CERTAIN = 2.0
"""That where a label must be found."""
AVERSION = 1.5
"""How much more a mean avoids the task than it seeks weight."""
KEY_GAIN, VIEW = 4.0, 0.2
"""How much larger than one the keys see what is no content, and how much smaller the rest of the state."""
MEAN_GAIN = 0.5
"""Of the weighted mean, as a layer writes it: small beside a token's own row, which the next layer reads too."""
# Of a head's 64 dimensions the rotary embedding hardly turns the last of each half within a text. Places there:
BASE, OF_TASK, FIRST_LABEL, HEAVY, SECOND_LABEL = 63, 62, 61, 31, 30
RESERVED_PLACES = frozenset((BASE, OF_TASK, FIRST_LABEL, HEAVY, SECOND_LABEL))


def configuration(hidden: int = HIDDEN, intermediate: int = 256, heads: int = 4) -> Any:
    """The numbers of a small model; of the embedding model unless said otherwise."""
    make: Any = Qwen3Config
    return make(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=LAYERS,
        num_attention_heads=heads,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=MAX_TOKENS,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        use_cache=False,
        attn_implementation="eager",  # on a CPU its backward is 1.5 x faster than sdpa's at these lengths
    )


def principal_directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """`[384, HIDDEN]`: the directions in which the teacher's vectors are largest, in falling order.

    A prefix of a projected vector is then the best one of its length, which is what Matryoshka prefixes want.
    """
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    return np.ascontiguousarray(directions[:, ::-1][:, :HIDDEN])


def token_rows(vectors: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.float32]:
    """`[tokens, HIDDEN]`, unit rows: the teacher's vectors of the tokens' texts, without what all share, projected."""
    rows = (vectors - vectors.mean(axis=0)) @ directions
    found: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-6)
    return found


def weighted_rows(table: Table, head_dim: int) -> NDArray[np.float32]:
    """`[tokens, HIDDEN]`: the table's rows, beside the constant and what makes a layer weigh them by their weights.

    A key is (1, t) in two of its dimensions, and the norms before and behind its projection keep but the ratio. The
    logit, SHARPNESS * head_dim ** 0.5 * t / (1 + t**2) ** 0.5, shall be the logarithm of the weight, plus that of the
    row's length, by which the layer's norm divides the values.
    """
    rows = table.rows.copy()
    logs = table.weights.clip(-HEAVIEST, HEAVIEST)
    most = SHARPNESS * head_dim**0.5
    tangents = np.zeros_like(logs)
    for _ in range(8):  # the length depends on what it corrects, slightly
        lengths = np.sqrt(1 + LENGTH**2 * (1 + tangents**2))
        ratio = ((logs + np.log(lengths)) / most).clip(-0.98, 0.98)
        tangents = ratio / np.sqrt(1 - ratio**2)
    rows[:, ONE] = LENGTH
    rows[:, WEIGHT] = LENGTH * tangents
    return SCALE * rows


def write_label(row: Tensor, dimension: int) -> None:
    """The row of a token that stands for no more than what it marks, and counts least in a mean."""
    row.zero_()
    row[ONE], row[WEIGHT], row[dimension] = SCALE * LENGTH, -SCALE * LENGTH * LEAST, SCALE * LABEL


def write_marking(attention: Any) -> None:
    """Every token looks for the prompt's labels: TASK becomes MARK from `Instruct` on, and nothing from `Query` on.

    Where a label is missing, attention is spread over tokens that have nothing of it.
    """
    heads = Heads(attention, RESERVED_PLACES, VIEW * END_LENGTH, VIEW)
    heads.sharpness.fill_(CERTAIN)
    heads.see(BASE, ONE, KEY_GAIN)
    length = (LABEL**2 + LENGTH**2 * (1 + LEAST**2)) ** 0.5  # the layer's norm divides by it
    for number, (place, label, mark) in enumerate(((FIRST_LABEL, INSTRUCT, MARK), (SECOND_LABEL, QUERY, -MARK))):
        heads.detect(number, label, place, ONE, KEY_GAIN, length / LABEL)
        heads.output[TASK, number, number] = SCALE * mark


def write_mean(attention: Any, first: int) -> None:
    """Every head becomes the weighted mean of the positions it sees but for the task's tokens.

    The layer copies as many dimensions as its values have, from `first` on. Queries are the same everywhere.
    """
    heads = Heads(attention, RESERVED_PLACES, VIEW * END_LENGTH, VIEW)
    heads.sharpness.fill_(SHARPNESS * (1 + AVERSION**2) ** 0.5)
    heads.see(BASE, ONE, KEY_GAIN)
    heads.see(HEAVY, WEIGHT, KEY_GAIN)
    heads.see(OF_TASK, TASK, KEY_GAIN)
    copied, size, _ = heads.values.shape
    parts = torch.split(torch.arange(first, CONTENT), size)[:copied]
    heads.copy(parts)
    for number in range(heads.group):
        heads.ask(number, HEAVY, ONE, KEY_GAIN)
        heads.ask(number, OF_TASK, ONE, -AVERSION * KEY_GAIN)
        heads.write(number, parts, SCALE * MEAN_GAIN / heads.group)


def start(table: Table, tokenizer: Tokenizer, seed: int) -> Qwen3Model:
    """A model whose last state is the weighted mean of the rows before it: the table's own vector of a text.

    The end token's row has nothing of its own to add, and the final norm leaves out what is no content.

    Args:
        table: a row and a weight for every token.
        tokenizer: with the end token.
        seed: of everything that is random.

    Raises:
        ValueError: a label of the prompt is not in the vocabulary.
    """
    end_token, instruct, query = required_ids(tokenizer, (END_TOKEN, *LABELS))
    torch.manual_seed(seed)
    config = configuration()
    model: Any = Qwen3Model(config)
    rows = model.embed_tokens.weight
    with torch.no_grad():
        rows.copy_(torch.from_numpy(weighted_rows(table, config.head_dim)))
        rows[end_token] = 0
        rows[end_token, ONE] = SCALE * END_LENGTH
        write_label(rows[instruct], INSTRUCT)
        write_label(rows[query], QUERY)
        model.norm.weight[CONTENT:] = 0
        for layer in model.layers:
            layer.mlp.down_proj.weight.zero_()
        marking, *averaging = (layer.self_attn for layer in model.layers)
        write_marking(marking)
        for number, attention in enumerate(averaging):
            write_mean(attention, number * config.num_key_value_heads * config.head_dim)
    started: Qwen3Model = model
    return started


def write_checkpoint(folder: Path, model: Qwen3Model | Qwen3ForCausalLM, tokenizer: Tokenizer) -> None:
    """The files of an official checkpoint: bfloat16 tensors, configuration, tokenizer, and the modules or the template.

    The folder appears whole or not at all.
    """
    draft = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    tensors.pop("lm_head.weight", None)  # tied to the token table
    save_file(tensors, draft / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict() | {"architectures": [type(model).__name__], "dtype": "bfloat16"}
    # transformers 4 reads it here, and takes 10,000 without a word where it is not.
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    write_json(draft / "config.json", {name: value for name, value in config.items() if value is not None})
    tokenizer.save(str(draft / "tokenizer.json"), pretty=False)
    if isinstance(model, Qwen3Model):
        write_sentence_transformers_files(draft, model.config.hidden_size)
    else:
        write_rerank_template(draft)
    draft.rename(folder)
