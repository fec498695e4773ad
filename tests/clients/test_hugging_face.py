"""huggingface_hub's InferenceClient, which posts to the address that it was given."""

import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from clients.harness import QUERY, TEXTS, Answers, Server, same

PATHS = ("", "/", "/embed", "/invocations")


@pytest.mark.parametrize("path", PATHS)
def test_features_are_the_vectors_of_embedder(server: Server, answers: Answers, path: str) -> None:
    client = InferenceClient(model=server.url + path)
    found = client.feature_extraction(QUERY)
    assert found.shape == answers.document([QUERY]).shape
    assert same(found, answers.document([QUERY]))
    assert same(client.feature_extraction(TEXTS), answers.document(TEXTS))


@pytest.mark.parametrize("path", PATHS)
def test_every_option(server: Server, answers: Answers, path: str) -> None:
    client = InferenceClient(model=server.url + path)
    found = client.feature_extraction(
        QUERY,
        normalize=False,
        prompt_name="query",
        truncate=True,
        truncation_direction="right",
        dimensions=64,
        encoding_format="float",
    )
    assert same(found, answers.query([QUERY], normalize=False, dim=64))


@pytest.mark.parametrize("path", ["", "/", "/similarity", "/invocations"])
def test_similarities_are_cosines(server: Server, answers: Answers, path: str) -> None:
    client = InferenceClient(model=server.url + path)
    found = client.sentence_similarity(QUERY, other_sentences=TEXTS)
    vectors = answers.document([QUERY, *TEXTS])
    np.testing.assert_allclose(found, vectors[1:] @ vectors[0], atol=1e-6)


def test_errors_say_what_is_wrong(server: Server, strict_server: Server) -> None:
    client = InferenceClient(model=f"{server.url}/embed")
    with pytest.raises(HfHubHTTPError, match="422") as caught:
        client.feature_extraction("word " * 2000, truncate=False)
    assert "shorten it" in str(caught.value)
    with pytest.raises(HfHubHTTPError, match="422"):
        client.feature_extraction(QUERY, prompt_name="other")
    with pytest.raises(HfHubHTTPError, match="401"):
        InferenceClient(model=f"{strict_server.url}/embed", token="wrong").feature_extraction(QUERY)
