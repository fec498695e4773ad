"""Define how transformers reads a Qwen3 tokenizer: as a Qwen2Tokenizer, unless its files name another class."""

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

from quoit_export.tokenizer_rules import TokenizerRules

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Pattern by which Qwen2Tokenizer splits a text, from transformers' tokenization_qwen2.py."""


def rebuild(tokenizer: Tokenizer) -> None:
    """Give a tokenizer the normalizer and the pre-tokenizer of Qwen2Tokenizer."""
    split = pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated")
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


TOKENIZER_RULES = TokenizerRules(
    owner="Qwen3",
    default_class="Qwen2Tokenizer",
    rebuilding=("Qwen2Tokenizer", "Qwen2TokenizerFast"),
    default_options=(
        *("continuing_subword_prefix", "end_of_word_suffix", "unk_token", "fuse_unk", "byte_fallback", "ignore_merges"),
    ),
    rebuild=rebuild,
)
"""Rules of Qwen3's tokenizer classes, from transformers' tokenization_qwen2.py."""
