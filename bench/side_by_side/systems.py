"""The systems that are compared: the environment of each, how its files are made from a checkpoint, how it is loaded.

Every file is made once and kept. This module does not measure anything.
"""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.environments import make_environment, run
from bench.record import WORK
from quoit.artifact import Precision, Task
from quoit.text.prompts import DEFAULT_TASK, RERANK_PREFIX, RERANK_SUFFIX

REQUIREMENTS = Path(__file__).parent / "requirements"
ANCHOR = "quoit int8"
"""System that works in every round, so that both sides of a ratio come from the same minute."""
REFERENCE = "sentence-transformers fp32"
"""System whose vectors the others' are compared with."""
PUBLISHED: tuple[Precision, ...] = ("fp32", "int8")
"""Variants that quoit-export writes by default."""
RERANK_PAIR = f"{RERANK_PREFIX}<Instruct>: {DEFAULT_TASK}\n<Query>: {{query}}\n<Document>: {{document}}{RERANK_SUFFIX}"
"""A pair as the model card of Qwen3-Reranker writes it, for `str.format`."""


@dataclass(frozen=True)
class Files:
    """A checkpoint, and where what is made of it lies.

    Attributes:
        checkpoint: the folder.
        task: what it is for.
    """

    checkpoint: Path
    task: Task

    @property
    def folder(self) -> Path:
        """Where its rivals' models are kept, by the checkpoint's name."""
        name = self.checkpoint.name
        return WORK / "models" / (f"{self.checkpoint.parent.name}-{name}" if name == "checkpoint" else name)

    @property
    def config(self) -> dict[str, Any]:
        """config.json."""
        found: dict[str, Any] = json.loads((self.checkpoint / "config.json").read_text())
        return found

    @property
    def query_prompt(self) -> str:
        """What stands before a query."""
        if self.task == "rerank":
            return ""
        settings = json.loads((self.checkpoint / "config_sentence_transformers.json").read_text())
        return str(settings["prompts"]["query"])

    @property
    def weight_bytes(self) -> int:
        """The size of the checkpoint's tensors."""
        return sum(file.stat().st_size for file in self.checkpoint.glob("*.safetensors"))


def environment(name: str) -> Path:
    """The Python of a system's environment; see `make_environment`."""
    return make_environment(name, REQUIREMENTS / f"{name}.txt")


Prepare = Callable[[Files], dict[str, Any]]


@dataclass(frozen=True)
class System:
    """A library, set up one way.

    Attributes:
        name: what tables call it.
        environment: its requirement file, without `.txt`.
        adapter: the module of `bench.side_by_side.workers` that serves it.
        prepare: makes its files; gives what `load` of the adapter is to know of them.
        settings: what else it is to know.
        tasks: what it can do here.
        memory: about how much it needs, as a multiple of the checkpoint's bytes; llama-cpp-python keeps logits of
            all tokens of its largest batch.
        several: whether it makes sense with several threads alone.
    """

    name: str
    environment: str
    adapter: str
    prepare: Prepare
    settings: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[Task, ...] = ("embedding",)
    memory: float = 1.5
    several: bool = False

    def config(self, files: Files) -> dict[str, Any]:
        """What its adapter's `load` is given, but for the threads; makes files and environment where needed.

        Raises:
            UnavailableError: one of them cannot be made here.
        """
        environment(self.environment)
        files.folder.mkdir(parents=True, exist_ok=True)
        known = {"checkpoint": str(files.checkpoint), "query_prompt": files.query_prompt, "task": files.task}
        known["rerank_pair"] = RERANK_PAIR
        return known | self.prepare(files) | self.settings


def make(target: Path, command: Callable[[Path], list[str]]) -> Path:
    """A file or folder that a command makes, under its name once it is whole."""
    if not target.exists():
        draft = target.with_name(f".{target.name}")
        if draft.is_dir():
            shutil.rmtree(draft)
        draft.unlink(missing_ok=True)
        print(f"making {target}", file=sys.stderr, flush=True)
        run(command(draft))
        draft.rename(target)
    return target


def nothing(_: Files) -> dict[str, Any]:
    """It reads the checkpoint itself."""
    return {}


def artifact(*precisions: Precision) -> Prepare:
    """quoit's artifact of these variants."""

    def prepare(files: Files) -> dict[str, Any]:
        export = [sys.executable, "-m", "quoit_export", str(files.checkpoint)]
        name = "artifact" if precisions == PUBLISHED else "-".join(("artifact", *precisions))
        folder = make(files.folder / name, lambda out: [*export, str(out), "--precision", *precisions])
        return {"model": str(folder)}

    return prepare


def optimum_cli(name: str, *arguments: str) -> list[str]:
    """A command of optimum in a system's environment."""
    return [str(environment(name)), "-m", "optimum.commands.optimum_cli", *arguments]


def optimum_plain(files: Files) -> dict[str, Any]:
    """optimum's fp32 graph."""
    export = ["export", "onnx", "--model", str(files.checkpoint), "--task", "feature-extraction"]
    folder = make(
        files.folder / "optimum-fp32",
        lambda out: optimum_cli("optimum", *export, "--library-name", "transformers", str(out)),
    )
    return {"folder": str(folder), "file": "model.onnx"}


def optimum_int8(files: Files) -> dict[str, Any]:
    """optimum's dynamic int8 graph for AVX512-VNNI."""
    plain = optimum_plain(files)["folder"]
    quantize = ["onnxruntime", "quantize", "--onnx_model", plain, "--avx512_vnni", "--per_channel"]
    folder = make(files.folder / "optimum-int8", lambda out: optimum_cli("optimum", *quantize, "-o", str(out)))
    shutil.copy(files.checkpoint / "config.json", folder / "config.json")
    return {"folder": str(folder), "file": "model_quantized.onnx"}


def openvino_int8(files: Files) -> dict[str, Any]:
    """OpenVINO's int8 weights."""
    export = ["export", "openvino", "--model", str(files.checkpoint), "--task", "feature-extraction"]
    export += ["--library", "transformers", "--weight-format", "int8"]
    folder = make(files.folder / "openvino-int8", lambda out: optimum_cli("openvino", *export, str(out)))
    return {"folder": str(folder)}


def onnx_folder(files: Files) -> dict[str, Any]:
    """optimum's int8 graph without the input that fastembed and qwen3-embed do not feed."""
    found = optimum_int8(files)
    source = f"{found['folder']}/{found['file']}"
    command = [str(environment("optimum")), "-m", "bench.side_by_side.workers.onnx_folder", source]
    folder = make(files.folder / "onnx-folder", lambda out: [*command, str(files.checkpoint), str(out)])
    return {"folder": str(folder), "file": "onnx/model_quantized.onnx", "dim": files.config["hidden_size"]}


def gguf(kind: str) -> Prepare:
    """A GGUF file of a kind, by llama.cpp's own quantization."""

    def prepare(files: Files) -> dict[str, Any]:
        convert = [str(environment("gguf")), "-m", "bench.side_by_side.workers.gguf_file", str(files.checkpoint)]
        plain = make(files.folder / "bf16.gguf", lambda out: [*convert, str(out)])
        quantize = [str(environment("llama-cpp")), "-m", "bench.side_by_side.workers.gguf_quantize", str(plain)]
        return {"file": str(make(files.folder / f"{kind}.gguf", lambda out: [*quantize, str(out), kind]))}

    return prepare


BOTH: tuple[Task, ...] = ("embedding", "rerank")
SYSTEMS = (
    System(ANCHOR, "quoit", "quoit_runtime", artifact(*PUBLISHED), {"precision": "int8"}, BOTH, 1.2),
    System(
        "quoit int8, workers",
        "quoit",
        "quoit_runtime",
        artifact(*PUBLISHED),
        {"precision": "int8", "workers": True},
        BOTH,
        1.2,
        True,
    ),
    System("quoit int4", "quoit", "quoit_runtime", artifact("int4"), {"precision": "int4"}, ("embedding",), 1.2),
    System("quoit fp32", "quoit", "quoit_runtime", artifact(*PUBLISHED), {"precision": "fp32"}, BOTH, 2.5),
    System("optimum int8", "optimum", "optimum_onnx", optimum_int8, memory=2),
    System("OpenVINO int8", "openvino", "openvino_int8", openvino_int8, memory=2),
    System("llama.cpp Q8_0", "llama-cpp", "llama_cpp_gguf", gguf("Q8_0"), memory=6),
    System("llama.cpp Q4_K_M", "llama-cpp", "llama_cpp_gguf", gguf("Q4_K_M"), memory=6),
    System("llama.cpp Q4_0", "llama-cpp", "llama_cpp_gguf", gguf("Q4_0"), memory=6),
    System("fastembed int8", "fastembed", "fastembed_onnx", onnx_folder, memory=2),
    System("qwen3-embed int8", "qwen3-embed", "qwen3_embed_onnx", onnx_folder, memory=2),
    System(
        REFERENCE,
        "sentence-transformers",
        "sentence_transformers_torch",
        nothing,
        {"dtype": "float32"},
        BOTH,
        3.5,
    ),
    System(
        "sentence-transformers bf16",
        "sentence-transformers",
        "sentence_transformers_torch",
        nothing,
        {"dtype": "bfloat16"},
        BOTH,
        2.5,
    ),
    System("optimum fp32", "optimum", "optimum_onnx", optimum_plain, memory=3.5),
    System("infinity", "infinity", "infinity_engine", nothing, memory=3.5),
    System("text-embeddings-inference", "text-embeddings-inference", "none", nothing),
)
