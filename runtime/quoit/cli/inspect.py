"""Run `quoit info` and `quoit doctor`: show the content of an artifact, and check whether it works here."""

import argparse
import json
from typing import TYPE_CHECKING, get_args

from quoit.artifact import HELD_OUT, SNIPPETS, Contract, EmbeddingContract, Measure, Parity, Precision
from quoit.cli.doctor import examine
from quoit.cli.process import show
from quoit.hub.names import hub_name
from quoit.hub.opening import open_manifest, open_model
from quoit.ort.providers import ProviderRequest
from quoit.text.prompts import query_prompt

if TYPE_CHECKING:
    from quoit.cli.options import Commands

FAILED = 1


def add_to(commands: "Commands") -> None:
    """Add the commands to the parser."""
    info = commands.add_parser("info", help="what an artifact holds")
    info.add_argument("artifact")
    info.set_defaults(run=run_info)

    doctor = commands.add_parser("doctor", help="check an artifact on this machine")
    doctor.add_argument("artifact")
    doctor.add_argument("--precision", choices=get_args(Precision))
    doctor.add_argument("--provider", choices=get_args(ProviderRequest), default="auto")
    doctor.set_defaults(run=run_doctor)


def run_info(options: argparse.Namespace) -> int:
    """Run `quoit info`, and return its exit code."""
    manifest = open_manifest(options.artifact).manifest
    contract = manifest.contract
    revision = f" at {manifest.source.revision}" if manifest.source.revision else ""
    show(f"{options.artifact}: {manifest.task} model from {manifest.source.id}{revision}, by {manifest.created_by}")
    least = f" (use {contract.min_dim} to {manifest.dimension})" if isinstance(contract, EmbeddingContract) else ""
    show(
        f"  {manifest.dimension} dimensions{least}, {manifest.max_tokens:,} tokens, vocabulary {manifest.vocab_size:,}"
    )
    config = ", ".join(f"{name} {value}" for name, value in manifest.family.config.items())
    show(f"  {manifest.family.name}: {config}")
    for name, text in surroundings(contract).items():
        show(f"  {name} {json.dumps(text, ensure_ascii=False)}{origin(contract, name)}")
    show(f"  {describe_output(contract)}")
    for name, variant in manifest.variants.items():
        size = sum(record.bytes for record in variant.files) / 1e6
        show(f"  {name:5} {size:9,.1f} MB{'' if variant.accepted else '  REJECTED'}")
        for line in describe_parity(variant.parity):
            show(f"    {line}")
        if variant.made is not None:
            show(f"  {name} is {variant.made.describe()}")
    return 0


MEASURES: dict[Measure, str] = {"centred": "centred cosine", "top10": "ten nearest kept"}
"""Words for measures whose names do not say enough."""


def describe_parity(parity: tuple[Parity, ...]) -> list[str]:
    """Return lines on a variant's parity: one for each graph and held-out sample, and one for each missed floor."""
    shown = [one for one in parity if one.texts in {HELD_OUT, SNIPPETS} and not one.recorded]
    sides = dict.fromkeys((one.reference, one.note, one.texts) for one in shown)
    lines = []
    for reference, note, texts in sides:
        values = "; ".join(
            f"{MEASURES.get(one.measure, one.measure)} {one.mean:.6f} on average, {one.minimum:.6f} at least"
            for one in shown
            if (one.reference, one.note, one.texts) == (reference, note, texts)
        )
        sample = "" if texts == HELD_OUT else f" on {texts} texts"
        lines.append(f"to {reference}{note}{sample}: {values}")
    return lines + [f"missed: {one.shortfall()}" for one in parity if not one.passes]


QUERY = "query prompt"


def surroundings(contract: Contract) -> dict[str, str]:
    """Return the texts that an artifact puts around the caller's texts, by name."""
    if isinstance(contract, EmbeddingContract):
        query = {QUERY: query_prompt(contract.prompts, None).text}
        return query | {f"{name} prompt": prompt for name, prompt in contract.prompts.items()}
    return {"prefix": contract.prefix, "suffix": contract.suffix, "instruction": contract.instruction}


def origin(contract: Contract, name: str) -> str:
    """Return the origin of the query prompt, in words; empty for other texts."""
    if name != QUERY or not isinstance(contract, EmbeddingContract):
        return ""
    if "query" in contract.prompts:
        return " (by the checkpoint's config_sentence_transformers.json)"
    return " (Qwen3-Embedding's official one: the checkpoint has no config_sentence_transformers.json)"


def describe_output(contract: Contract) -> str:
    """Return a description of how a vector or a score is made."""
    if isinstance(contract, EmbeddingContract):
        name = contract.default_prompt_name
        plain = "no prompt" if name is None else f"the {name} prompt"
        return f"a vector is the state of end token {contract.end_token_id} after the text; `encode` adds {plain}"
    if contract.yes_token_id is None:
        return "scores come from the checkpoint's classification head"
    return f"scores are the logit of token {contract.yes_token_id} minus that of token {contract.no_token_id}"


def run_doctor(options: argparse.Namespace) -> int:
    """Run `quoit doctor`, and return its exit code."""
    artifact = open_model(options.artifact, options.precision, options.provider)
    healthy = True
    fetched = hub_name(options.artifact) is not None
    for finding in examine(artifact, options.precision, options.provider, fetched=fetched):
        show(f"{'ok  ' if finding.holds else 'FAIL'}  {finding.name}: {finding.detail}", flush=True)
        healthy = healthy and finding.holds
    return 0 if healthy else FAILED
