"""What runs, why, and what is refused: providers, precisions and damaged models."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from msgspec.structs import replace

from quoit import ArtifactError, Embedder, InputError, ProviderError
from quoit.artifact import Artifact, Precision, Variant, record_file
from quoit.engine.layouts import packed
from quoit.machine import usable_cores
from quoit.ort.probe import INT8_PROBE, int8_is_exact
from quoit.ort.providers import choose, onnxruntime_version
from quoit.ort.session import Session
from quoit_export.verify.parity import parity_texts
from support import Embedders, with_variants

HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
without_cuda = pytest.mark.skipif(HAS_CUDA, reason="this onnxruntime offers CUDA")
exact_int8 = pytest.mark.skipif(not int8_is_exact(), reason="this CPU saturates int8 sums")
THREADS = 8
OFFERED = ["CUDAExecutionProvider", "CPUExecutionProvider"]


def reject(artifact: Artifact, name: Precision) -> Variant:
    return replace(artifact.manifest.variants[name], accepted=False)


@pytest.fixture
def copy(artifact: Artifact, tmp_path: Path) -> Artifact:
    """The artifact in a folder of the test's own; its files are links, to be replaced and not written into."""
    folder = tmp_path / "copy"
    shutil.copytree(artifact.folder, folder, copy_function=os.link)
    return Artifact(folder, artifact.manifest)


@pytest.fixture
def saturating(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that does not sum int8 products exactly."""
    monkeypatch.setattr("quoit.ort.probe.int8_is_exact", lambda: False)


def test_what_is_asked_for_is_chosen_because_it_was_asked_for(artifact: Artifact) -> None:
    for precision in artifact.accepted():
        choice = choose(artifact, "cpu", precision)
        assert (choice.provider, choice.provider_reason) == ("cpu", "asked for")
        assert (choice.precision, choice.precision_reason) == (precision, "asked for")


def test_int8_is_the_default_on_a_cpu(artifact: Artifact) -> None:
    choice = choose(artifact, "cpu", None)
    assert choice.precision == "int8"
    assert choice.precision_reason == "the first of int8, int4, fp32, fp16, bf16 that the artifact has"


def test_the_default_skips_what_is_absent_or_rejected(artifact: Artifact) -> None:
    assert choose(with_variants(artifact, int8=None), "cpu", None).precision == "fp32"
    assert choose(with_variants(artifact, int8=reject(artifact, "int8")), "cpu", None).precision == "fp32"
    assert choose(with_variants(artifact, int8=None, fp32=None), "cpu", None).precision == "fp16"


def test_without_an_accepted_variant_there_is_no_default(artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match="has no variant that passed its parity gate"):
        choose(with_variants(artifact, fp32=None, fp16=None, int8=reject(artifact, "int8")), "cpu", None)


def test_a_precision_that_is_absent_or_rejected_is_not_replaced(artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match="has no fp16 variant"):
        choose(with_variants(artifact, fp16=None), "cpu", "fp16")
    with pytest.raises(ArtifactError, match="was rejected at export"):
        choose(with_variants(artifact, int8=reject(artifact, "int8")), "cpu", "int8")


def test_unknown_names_are_refused(artifact: Artifact) -> None:
    with pytest.raises(InputError, match="provider 'tpu' is unknown; choose one of cpu, cuda, auto"):
        choose(artifact, "tpu", None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="precision 'fp8' is unknown; choose one of fp32, fp16, bf16, int8"):
        choose(artifact, "cpu", "fp8")  # type: ignore[arg-type]


@without_cuda
def test_auto_says_why_it_took_the_cpu(artifact: Artifact) -> None:
    choice = choose(artifact, "auto", None)
    assert (choice.provider, choice.provider_reason) == ("cpu", "onnxruntime offers no CUDA")


@without_cuda
def test_cuda_that_is_not_there_is_never_replaced_by_the_cpu(artifact: Artifact) -> None:
    with pytest.raises(ProviderError, match=r"'cuda' was asked for.*CPUExecutionProvider.*pip install 'quoit\[cuda\]'"):
        Embedder(artifact.folder, provider="cuda")


def test_auto_takes_cuda_and_fp16_where_onnxruntime_offers_it(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choice alone; there may be no such device."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: OFFERED)
    choice = choose(artifact, "auto", None)
    assert (choice.provider, choice.provider_reason) == ("cuda", "onnxruntime offers CUDA")
    assert choice.precision == "fp16"
    assert choice.precision_reason == "the first of fp16, bf16, int4 that the artifact has"


def test_auto_takes_the_cpu_where_the_artifact_has_nothing_for_cuda(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: OFFERED)
    for without in (with_variants(artifact, fp16=None), with_variants(artifact, fp16=reject(artifact, "fp16"))):
        choice = choose(without, "auto", None)
        assert (choice.provider, choice.provider_reason) == ("cpu", f"{artifact.folder} has no graph for CUDA")
    choice = choose(artifact, "auto", "fp32")
    assert choice.provider == "cpu"
    assert choice.provider_reason == f"the fp32 variant of {artifact.folder} has no graph for CUDA"


def test_cuda_refuses_what_it_does_not_run(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: OFFERED)
    with pytest.raises(
        ArtifactError, match=r"the int8 variant of .* has no graph for CUDA, which runs fp16, bf16, int4"
    ):
        choose(artifact, "cuda", "int8")
    with pytest.raises(ArtifactError, match=r"has no graph for CUDA, .* --precision fp16"):
        choose(with_variants(artifact, fp16=None), "cuda", None)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.unlink()
    file.write_bytes(content)


def cut_the_end(file: Path) -> None:
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[: len(content) * 3 // 4])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [(flip_a_bit, "is damaged: its SHA-256"), (cut_the_end, "has .* bytes, .* expected"), (Path.unlink, "is missing")],
    ids=["bit", "cut", "absent"],
)
def test_a_damaged_model_is_refused_by_its_files_name(
    copy: Artifact, precision: Precision, name: str, damage: Callable[[Path], None], message: str
) -> None:
    file = copy.folder / precision / name
    damage(file)
    with pytest.raises(ArtifactError, match=f"^{re.escape(str(file))} {message}"):
        Embedder(copy.folder, precision=precision, provider="cpu")


def test_a_damaged_variant_does_not_hinder_the_others(copy: Artifact) -> None:
    flip_a_bit(copy.folder / "fp16/model.onnx.data")
    assert Embedder(copy.folder, precision="fp32", provider="cpu").encode("gravity").shape == (96,)


def test_a_damaged_tokenizer_is_refused_by_its_files_name(copy: Artifact) -> None:
    flip_a_bit(copy.folder / "tokenizer.json")
    with pytest.raises(ArtifactError, match=f"^{re.escape(str(copy.folder / 'tokenizer.json'))} is damaged"):
        Embedder(copy.folder, precision="fp32", provider="cpu")


def record_graph(artifact: Artifact, content: bytes) -> Artifact:
    """The artifact with another fp32 graph, whose hash is right."""
    file = artifact.folder / "fp32/model.onnx"
    file.unlink()
    file.write_bytes(content)
    variant = artifact.manifest.variants["fp32"]
    graph = replace(variant.graphs["cpu"], file=record_file(artifact.folder, file))
    return with_variants(artifact, fp32=replace(variant, graphs={"cpu": graph}))


def test_a_graph_that_is_no_model_is_refused_by_its_files_name(copy: Artifact) -> None:
    changed = record_graph(copy, b"no model")
    file = re.escape(str(copy.folder / "fp32/model.onnx"))
    with pytest.raises(ArtifactError, match=f"onnxruntime cannot load {file}: .*; export the artifact again"):
        Embedder(changed, precision="fp32", provider="cpu")


def test_a_graph_is_found_by_its_record_and_not_by_its_files_name(copy: Artifact) -> None:
    expected = Embedder(copy, precision="fp32", provider="cpu", kernels=False).encode("a text")
    variant = copy.manifest.variants["fp32"]
    file = (copy.folder / "fp32/model.onnx").rename(copy.folder / "fp32/graph of another name.onnx")
    graph = replace(variant.graphs["cpu"], file=record_file(copy.folder, file))
    renamed = with_variants(copy, fp32=replace(variant, graphs={"cpu": graph}))
    found = Embedder(renamed, precision="fp32", provider="cpu").encode("a text")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("data", [True, False])
def test_a_variant_without_a_graph_is_refused(artifact: Artifact, data: bool) -> None:
    variant = artifact.manifest.variants["fp32"]
    empty = replace(variant, graphs={}, data=variant.data if data else ())
    with pytest.raises(ArtifactError, match="fp32"):
        Embedder(with_variants(artifact, fp32=empty), precision="fp32", provider="cpu")


def test_without_onnxruntime_both_extras_are_named(artifact: Artifact) -> None:
    program = (
        "import sys\n"
        "sys.modules['onnxruntime'] = None\n"
        "import quoit\n"
        "try:\n"
        "    quoit.Embedder(sys.argv[1])\n"
        "except quoit.ProviderError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", program, str(artifact.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout.startswith("onnxruntime cannot be imported")
    assert "pip install 'quoit[cpu]'" in done.stdout
    assert "pip install 'quoit[cuda]'" in done.stdout


def test_importing_quoit_does_not_import_onnxruntime() -> None:
    program = "import sys, quoit, quoit.cli.main; print('onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("chosen", [None, "0"])
def test_onnxruntime_reports_nothing_and_writes_nothing_unless_it_was_chosen_to(
    artifact: Artifact, tmp_path: Path, chosen: str | None
) -> None:
    """Without the switch it leaves a device id and a database in the home folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    environment |= {"HOME": str(tmp_path)} | ({} if chosen is None else {"ORT_DISABLE_TELEMETRY": chosen})
    program = (
        "import os, sys, quoit; quoit.Embedder(sys.argv[1]).encode('a'); print(os.getenv('ORT_DISABLE_TELEMETRY'))"
    )
    command = [sys.executable, "-c", program, str(artifact.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    assert done.stdout == f"{chosen or 1}\n"
    if chosen is None:
        assert done.stderr == ""
        assert list(tmp_path.iterdir()) == []


def test_the_version_names_the_distribution() -> None:
    assert re.fullmatch(r"onnxruntime(-gpu)? \d+\.\d+\S*( and onnxruntime \S+)?", onnxruntime_version())


def test_int8_is_exact_or_it_is_not() -> None:
    assert isinstance(int8_is_exact(), bool)


def test_the_int8_probe_is_one_matmulinteger() -> None:
    model = onnx.load_from_string(INT8_PROBE)
    onnx.checker.check_model(model, full_check=True)
    (node,) = model.graph.node
    assert node.op_type == "MatMulInteger"
    assert list(node.input) == ["a", "b"]
    types = [value.type.tensor_type.elem_type for value in model.graph.input]
    assert types == [onnx.TensorProto.UINT8, onnx.TensorProto.INT8]


@exact_int8
def test_where_int8_sums_saturate_its_other_graph_runs(
    artifact: Artifact, embedders: Embedders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Close to fp32 as was measured at export, not the same bits as elsewhere, and the same in any batch."""
    texts = ["gravity", "The capital of China is Beijing.", "a", "gravity attracts"]
    exact = Embedder(artifact, precision="int8", provider="cpu", kernels=False).encode(texts)
    monkeypatch.setattr("quoit.ort.probe.int8_is_exact", lambda: False)
    embedder = Embedder(artifact, provider="cpu", kernels=False)
    session = embedder.pipeline.session
    assert (session.choice.precision, session.graph) == ("int8", "saturating")
    vectors = embedder.encode(texts)
    assert (vectors != exact).any()
    (measured,) = [
        parity
        for parity in artifact.variant("int8").parity
        if parity.graph == "saturating" and parity.measure == "cosine"
    ]
    assert np.sum(vectors * embedders("fp32").encode(texts), axis=1).min() > 2 * measured.minimum - 1
    np.testing.assert_array_equal(np.concatenate([embedder.encode([text]) for text in texts]), vectors)


@pytest.mark.usefixtures("saturating")
def test_floats_have_one_graph_wherever_they_run(artifact: Artifact) -> None:
    for precision in ("fp32", "fp16"):
        embedder = Embedder(artifact, precision=precision, provider="cpu", kernels=False)
        assert embedder.pipeline.session.graph == "cpu"


def test_the_answer_has_the_shape_of_its_task(artifact: Artifact, rerank_artifact: Artifact) -> None:
    """A state for embedding, a score for reranking."""
    assert Session(artifact, choose(artifact, "cpu", "fp32"), packed.LAYOUT.contract, threads=1).answer_shape == (96,)
    assert (
        Session(rerank_artifact, choose(rerank_artifact, "cpu", "fp32"), packed.LAYOUT.contract, threads=1).answer_shape
        == ()
    )


def test_threads_are_the_sessions(artifact: Artifact) -> None:
    assert Session(artifact, choose(artifact, "cpu", "fp32"), packed.LAYOUT.contract, threads=3).threads == 3
    assert Embedder(artifact, precision="fp32", provider="cpu").pipeline.session.threads == usable_cores()
    shared = Embedder(artifact, precision="fp32", provider="cpu", threads=5, workers=2)
    assert shared.pipeline.session.threads == 2


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_many_threads_get_the_bits_of_one(embedders: Embedders, precision: Precision) -> None:
    embedder = embedders(precision)
    texts = parity_texts()[:48]
    shares = [texts[start:] + texts[:start] for start in range(0, 48, 48 // THREADS)]
    expected = [embedder.encode(share) for share in shares]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(embedder.encode, shares))
    for one, many in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, many)
