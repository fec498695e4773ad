"""List the accepted keys of a checkpoint's JSON files, and refuse all others.

An accepted key is either read by export, or known to change no vector and no score. Each table maps a key to the
values that quoit accepts. A key or a value outside its table is refused by its name and never ignored.

Sources: the official Qwen3 checkpoints, `PreTrainedConfig`, `Qwen3Config` and the tokenizers of transformers 4.57 and
5.24, and the files that sentence-transformers 2 to 6 writes. generation_config.json has no table: it configures only
the generation of text, so quoit does not read it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from quoit.errors import brief, shown
from quoit_export.errors import CheckpointError

Accepts = Callable[[object], bool]
Table = Mapping[str, Accepts]


def anything(value: object) -> bool:  # noqa: ARG001
    """Accept every value: the key is read elsewhere, or has no effect."""
    return True


def only(*values: object) -> Accepts:
    """Return a check that accepts only these values."""
    return lambda value: any(value == one for one in values)


def empty(value: object) -> bool:
    """Accept an empty value: null, false, or an empty text, list or object."""
    return value is None or value is False or value in ("", [], {})


def any_value(*keys: str) -> dict[str, Accepts]:
    """Return a table that accepts every value of these keys."""
    return dict.fromkeys(keys, anything)


GENERATION = any_value(
    *("max_length", "min_length", "max_new_tokens", "do_sample", "early_stopping", "num_beams", "num_beam_groups"),
    *("diversity_penalty", "temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    *("repetition_penalty", "encoder_repetition_penalty", "length_penalty", "no_repeat_ngram_size"),
    *("encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "output_scores"),
    *("return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values"),
    *("exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "num_assistant_tokens"),
    *("num_assistant_tokens_schedule", "assistant_confidence_threshold", "assistant_lookbehind", "target_lookbehind"),
)
"""Parameters of text generation, which older versions write into config.json."""

TRANSFORMERS_CONFIG: Table = {
    **GENERATION,
    # Keys for metadata, training, labels, and the form of transformers' outputs.
    **any_value("transformers_version", "name_or_path", "dtype", "torch_dtype", "use_bfloat16", "torchscript"),
    **any_value(
        "tf_legacy_loss", "attn_implementation", "initializer_range", "attention_dropout", "classifier_dropout"
    ),
    **any_value("hidden_dropout", "use_cache", "gradient_checkpointing", "output_attentions", "output_hidden_states"),
    **any_value("return_dict", "tie_last_hidden_states", "chunk_size_feed_forward", "finetuning_task"),
    **any_value("task_specific_params", "problem_type", "num_labels", "id2label", "label2id", "tokenizer_class"),
    **any_value("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id"),
    **any_value("unsloth_version", "unsloth_fixed"),
    # Activation of sentence-transformers' CrossEncoder; quoit has its own parameter for it.
    **any_value("sentence_transformers", "sbert_ce_default_activation_function"),
}
"""Keys of config.json that change no vector and no score, in any family."""

SPECIAL_TOKENS = (
    *("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"),
    *("additional_special_tokens", "extra_special_tokens"),
)

TOKENIZER_CONFIG: Table = {
    **any_value("model_max_length", "chat_template", "added_tokens_decoder", *SPECIAL_TOKENS),
    "truncation_side": only(None, "right"),
    **dict.fromkeys(("add_prefix_space", "do_lower_case", "auto_map"), empty),
    # Keys for padding, for decoding, or for how transformers finds its files. quoit reads a special token in a text as
    # plain text, whatever `split_special_tokens` says. The accepted tokenizer classes ignore `add_bos_token` and
    # `add_eos_token`.
    **any_value(
        "padding_side", "padding", "pad_to_multiple_of", "pad_token_type_id", "truncation", "truncation_strategy"
    ),
    **any_value(
        "max_length", "stride", "clean_up_tokenization_spaces", "errors", "split_special_tokens", "add_bos_token"
    ),
    **any_value(
        "add_eos_token", "backend", "is_local", "local_files_only", "name_or_path", "processor_class", "use_fast"
    ),
    **any_value(
        "special_tokens_map_file", "tokenizer_file", "vocab_file", "merges_file", "model_input_names", "legacy"
    ),
    **any_value("response_schema", "is_fast"),
}
"""Keys of tokenizer_config.json, except `tokenizer_class`, whose values a family names."""

MODULE: Table = any_value("idx", "name", "path", "type", "kwargs")
"""Keys of a module in modules.json; `kwargs` names arguments that a caller may pass on."""

POOLING: Table = {
    **any_value("word_embedding_dimension", "embedding_dimension", "include_prompt", "pooling_mode"),
    **any_value("pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode_max_tokens"),
    **any_value("pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken"),
}
"""Keys of a Pooling module's config.json; `include_prompt` does not affect the last token."""

NORMALIZE: Table = {
    "module_input_name": only("sentence_embedding"),
    "module_output_name": only(None, "sentence_embedding"),
}
"""Keys of a Normalize module's config.json."""

LOGIT_SCORE: Table = {**any_value("true_token_id", "false_token_id"), "module_input_name": only("causal_logits")}
"""Keys of a LogitScore module's config.json."""

LOADING: Table = any_value(
    "dtype", "torch_dtype", "attn_implementation", "device_map", "low_cpu_mem_usage", "use_cache"
)
"""Arguments of transformers' `from_pretrained` that set only where and in which precision a model is computed."""


def loading(value: object) -> bool:
    """Accept null, and an object whose keys are all in LOADING."""
    return value is None or (isinstance(value, dict) and all(key in LOADING for key in value))


def _forward(output: str, **more: str) -> dict[str, str]:
    return {"method": "forward", "method_output_name": output, **more}


TRANSFORMER: Table = {
    "max_seq_length": anything,
    "unpad_inputs": anything,
    **dict.fromkeys(("do_lower_case", "query_length", "document_length", "query_expansion"), empty),
    **dict.fromkeys(("tokenizer_name_or_path", "tokenizer_args", "processor_kwargs"), empty),
    **dict.fromkeys(("model_args", "model_kwargs", "config_args", "config_kwargs"), loading),
}
EMBEDDING_TRANSFORMER: Table = {
    **TRANSFORMER,
    "transformer_task": only("feature-extraction"),
    "modality_config": only({"text": _forward("last_hidden_state")}),
    "module_output_name": only("token_embeddings"),
    "processing_kwargs": empty,
}
"""Keys of an embedding model's sentence_bert_config.json."""
RERANK_TRANSFORMER: Table = {
    **TRANSFORMER,
    "transformer_task": only("text-generation", "sequence-classification"),
    "modality_config": only(
        {"text": _forward("logits"), "message": _forward("logits", format="flat")},
        {"message": _forward("logits", format="flat")},
    ),
    "module_output_name": only("causal_logits", "scores"),
    "processing_kwargs": lambda value: empty(value) or (isinstance(value, dict) and value.keys() <= {"chat_template"}),
}
"""Keys of a reranker's sentence_bert_config.json."""

PIPELINE: Table = any_value("prompts", "default_prompt_name", "requirements", "similarity_fn_name", "truncate_dim")
EMBEDDING_PIPELINE: Table = {**PIPELINE, "model_type": only("SentenceTransformer")}
RERANK_PIPELINE: Table = {
    **PIPELINE,
    **any_value("activation_fn", "keep_in_fp32_modules"),
    "model_type": only("CrossEncoder"),
}
"""Keys of a reranker's config_sentence_transformers.json; quoit's parameter `activation` replaces `activation_fn`."""


def check_keys(found: Mapping[str, Any], table: Table, file: Path, remedy: str) -> None:
    """Refuse keys that are not in the table, and values that the table does not accept.

    An unknown key is allowed if its value is null or if its name begins with an underscore. transformers uses such
    names for its own notes.

    Raises:
        CheckpointError: a key is unknown, or its value is not accepted.
    """
    for key, value in found.items():
        accepts = table.get(key)
        if accepts is None and value is not None and not key.startswith("_"):
            raise CheckpointError(
                f"{file} sets {brief(key, 80)} to {shown(value)}, and quoit does not know what that changes; remove it "
                "from the file if it changes nothing, or ask for its support"
            )
        if accepts is not None and not accepts(value):
            raise CheckpointError(f"{file} sets {key} to {shown(value)}, which quoit does not export; {remedy}")
