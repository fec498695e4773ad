"""A spaCy component, "quoit", that gives documents the vectors of a quoit artifact.

    nlp.add_pipe(FACTORY, config={"model": "models/embedding-onnx"})

`similarity` compares documents with each other, so all of them get the same prompt: the document prompt, or the one
that `prompt` names. Vectors of tokens and spans stay spaCy's own.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc, Span, Token

from quoit_integrations.handles import LazyEmbedder, PromptName

FACTORY = "quoit"
"""Name of the component's factory."""

EXTENSION = "quoit_vector"
"""Name of the documents' attribute that holds the vector; unlike hooks, it is kept when a document is serialised."""


class QuoitVectors:
    """Sets `doc.vector` of documents, one call of the model a batch."""

    def __init__(self, name: str, lazy: LazyEmbedder) -> None:
        """Take the component's name, and the handle of the model."""
        self.name, self.lazy = name, lazy
        if not Doc.has_extension(EXTENSION):
            Doc.set_extension(EXTENSION, default=None)

    def __call__(self, doc: Doc) -> Doc:
        """Set the vector of a document."""
        return next(self.pipe([doc]))

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 256) -> Iterator[Doc]:
        """Set the vectors of documents, `batch_size` at a time."""
        documents = iter(stream)
        while batch := list(islice(documents, batch_size)):
            for doc, vector in zip(batch, self.lazy.encode([doc.text for doc in batch]), strict=True):
                set_vector(doc, vector)
                yield doc


def set_vector(doc: Doc, vector: np.ndarray) -> None:
    """Give a document its vector."""
    doc._.set(EXTENSION, vector)
    doc.user_hooks |= {"vector": get_vector, "has_vector": has_vector, "similarity": cosine}


def get_vector(doc: Doc) -> np.ndarray:
    """Return the vector of a document, [dim] float32."""
    vector: np.ndarray = doc._.get(EXTENSION)
    return vector


def has_vector(doc: Doc) -> bool:
    """Return whether a document has a vector."""
    return doc._.get(EXTENSION) is not None


def cosine(doc: Doc, other: Doc | Span | Token) -> float:
    """Return the cosine of two vectors; spaCy's own method warns of vocabularies without vectors."""
    norms = doc.vector_norm * other.vector_norm
    return float(doc.vector @ other.vector / norms) if norms else 0.0


@Language.factory(
    FACTORY,
    assigns=["doc.vector", f"doc._.{EXTENSION}"],
    default_config={"prompt": "document", "instruction": None, "dim": None, "options": {}},
)
def make(
    nlp: Language,
    name: str,
    model: str,
    prompt: PromptName,
    instruction: str | None,
    dim: int | None,
    options: dict[str, Any],
) -> QuoitVectors:
    """Return the component of a pipeline's configuration; the arguments are those of `LazyEmbedder`."""
    del nlp
    return QuoitVectors(name, LazyEmbedder(model, prompt=prompt, instruction=instruction, dim=dim, options=options))
