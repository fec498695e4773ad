"""Paths that take any body of Text Embeddings Inference: `/`, SageMaker's `/invocations`, Vertex' instances."""

import asyncio
from typing import Any

import msgspec

from quoit.server.call import Call
from quoit.server.dialects import ranking, tei
from quoit.server.endpoint import Endpoint, Large, decode
from quoit.server.refusals import wrong
from quoit.server.service import Service

ABSENT = msgspec.Raw()


class AnyBody(msgspec.Struct, kw_only=True):
    """A body of one of several shapes."""

    inputs: msgspec.Raw = ABSENT
    query: msgspec.Raw = ABSENT


EMBED = Endpoint(("/embed",), tei.TEI, tei.EmbedBody, tei.embed, "")
SIMILARITY = Endpoint(("/similarity",), tei.TEI, tei.SimilarityBody, tei.similarity, "")
PREDICT = Endpoint(("/predict",), tei.TEI, tei.PredictBody, tei.predict, "")


def choose(service: Service, content: bytes) -> Endpoint:
    """Return what answers a body, by the fields that it has."""
    body = decode(content, AnyBody)
    if bytes(body.query):
        return ranking.RERANK
    inputs = bytes(body.inputs).lstrip()
    if not inputs:
        raise wrong("the body has neither inputs nor query; send one of them", "inputs")
    if inputs.startswith(b"{"):
        return SIMILARITY
    return PREDICT if service.models.embedder is None else EMBED


class ByShape(Endpoint):
    """An endpoint whose body decides what answers it."""

    async def answer(self, service: Service, content: bytes, call: Call) -> Any:
        """Return what becomes the JSON of an answer; see `Endpoint.answer`."""
        call.dialect = self.dialect
        return await choose(service, content).answer(service, content, call)


class VertexBody(msgspec.Struct, kw_only=True):
    """The body of a prediction on Vertex AI."""

    instances: list[msgspec.Raw]


async def predict(service: Service, body: VertexBody, call: Call) -> Any:
    """Answer Vertex: each instance is a body of one of the shapes."""
    if len(body.instances) > service.settings.max_texts:
        raise wrong(
            f"instances has {len(body.instances):,} items; send {service.settings.max_texts:,} at most", "instances"
        )
    contents = [bytes(instance) for instance in body.instances]
    chosen = [(choose(service, content), content) for content in contents]  # all, before the first one begins
    try:
        answers = await asyncio.gather(*(endpoint.answer(service, content, call) for endpoint, content in chosen))
    finally:
        call.dialect = tei.TEI  # each instance set its own
    return {"predictions": [each.make() if isinstance(each, Large) else each for each in answers]}


ENDPOINTS = (
    ByShape(
        ("/", "/invocations"),
        tei.TEI,
        AnyBody,
        predict,
        "Any of the bodies of /embed, /similarity, /rerank.",
        by_body=True,
    ),
    Endpoint(("/vertex",), tei.TEI, VertexBody, predict, "Several such bodies, as Vertex AI sends them."),
)
