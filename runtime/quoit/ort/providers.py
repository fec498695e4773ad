"""Choose the execution provider and the precision, each with its reason."""

from dataclasses import dataclass
from typing import Literal, get_args

from quoit.artifact import Artifact, Precision, ProviderName
from quoit.errors import ArtifactError, InputError, ProviderError, shown
from quoit.ort.cuda import explain_absence, installed
from quoit.ort.module import onnxruntime
from quoit.ort.sessions import ONNX_NAMES
from quoit.precisions import PREFERRED

ProviderRequest = Literal["cpu", "cuda", "auto"]


@dataclass(frozen=True)
class Choice:
    """The execution provider and the precision that run, each with its reason."""

    provider: ProviderName
    provider_reason: str
    precision: Precision
    precision_reason: str


def choose(artifact: Artifact, provider: ProviderRequest, precision: Precision | None) -> Choice:
    """Choose the provider and the precision, each with its reason.

    Raises:
        ProviderError: onnxruntime is not installed, or lacks the provider asked for.
        ArtifactError: the artifact lacks the precision or a graph for CUDA, or export rejected the precision.
        InputError: the provider or precision is unknown.
    """
    check_request(provider, precision)
    if precision is not None:
        artifact.variant(precision)
    name, why = _choose_provider(artifact, provider, precision)
    if precision is not None:
        return Choice(name, why, precision, "asked for")
    usable = _runs(artifact, name)
    if not usable:
        raise ArtifactError(f"{artifact.folder} has no variant that passed its parity gate; export it again")
    return Choice(name, why, usable[0], f"the first of {', '.join(PREFERRED[name])} that the artifact has")


def check_request(provider: ProviderRequest, precision: Precision | None) -> None:
    """Refuse names that no provider and no precision has.

    Raises:
        InputError: the provider or precision is unknown.
    """
    if provider not in get_args(ProviderRequest):
        raise InputError(f"provider {shown(provider)} is unknown; choose one of {', '.join(get_args(ProviderRequest))}")
    if precision is not None and precision not in get_args(Precision):
        raise InputError(f"precision {shown(precision)} is unknown; choose one of {', '.join(get_args(Precision))}")


def first_choice(provider: ProviderRequest) -> Precision:
    """Return the precision that this machine prefers, for a model of which there is no artifact yet.

    Raises:
        ProviderError: onnxruntime is not installed, or lacks the provider asked for.
    """
    if provider == "cpu":
        return PREFERRED["cpu"][0]
    return PREFERRED["cuda" if _offers_cuda(provider) else "cpu"][0]


def _offers_cuda(requested: ProviderRequest) -> bool:
    """Return whether onnxruntime offers CUDA.

    Raises:
        ProviderError: it does not, and CUDA was asked for.
    """
    available = onnxruntime().get_available_providers()
    has_cuda = ONNX_NAMES["cuda"] in available
    if requested == "cuda" and not has_cuda:
        raise ProviderError(
            f"provider 'cuda' was asked for, but {explain_absence(available, installed())}, or use provider='cpu'"
        )
    return has_cuda


def _choose_provider(
    artifact: Artifact, requested: ProviderRequest, precision: Precision | None
) -> tuple[ProviderName, str]:
    if requested == "cpu":
        return "cpu", "asked for"
    if not _offers_cuda(requested):
        return "cpu", "onnxruntime offers no CUDA"
    runs = _runs(artifact, "cuda")
    if precision in runs or (precision is None and runs):
        return "cuda", "onnxruntime offers CUDA" if requested == "auto" else "asked for"
    what = f"the {precision} variant of {artifact.folder}" if precision else f"{artifact.folder}"
    if requested == "cuda":
        raise ArtifactError(
            f"{what} has no graph for CUDA, which runs {', '.join(PREFERRED['cuda'])}; add one with "
            f"`quoit-export CHECKPOINT {artifact.folder} --precision {PREFERRED['cuda'][0]}`, or use provider='cpu'"
        )
    return "cpu", f"{what} has no graph for CUDA"


def _runs(artifact: Artifact, provider: ProviderName) -> list[Precision]:
    """Return the accepted precisions that a provider runs, the preferred one first."""
    variants, accepted = artifact.manifest.variants, artifact.accepted()
    return [name for name in PREFERRED[provider] if name in accepted and variants[name].graph(provider)]


def onnxruntime_version() -> str:
    """Return the distribution's name and version of the installed onnxruntime."""
    return " and ".join(installed()) or onnxruntime().__version__
