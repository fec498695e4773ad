"""The page: what is sent and how, and what a real browser makes of it.

The tests in a browser are slow; `scripts/test_page` runs them. With QUOIT_SHOTS, the name of a folder, they leave
pictures of all sections there.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from browser import CHROMIUM, Browser
from quoit import Embedder
from quoit.server import page
from quoit.server.run import Served
from quoit.server.service import to_integers
from quoit.server.settings import Settings
from serving import Serving, serving

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "runtime" / "quoit" / "server" / "page"
FILES = sorted(FOLDER.iterdir())
NAMES = ("quoit-embedding-9m", "quoit-reranker-6m")
MOST_BYTES = 60 << 10
BROWSER_ACCEPT = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"
SECTIONS = ("compare", "search", "tokens", "server")
KEY = "correct-horse"
QUERIES = ["how tall is the mountain", "what do cats eat"]
DOCUMENTS = ["The peak is 4,000 m high.", "Cats live on meat.", "A train leaves at noon."]
TEXT = """# Animals

Cats live on meat, and lap water at night.

# Mountains

The highest peak is 4,000 m above the sea.

# Trains

The train to the coast leaves at noon.
"""


@pytest.fixture(scope="module")
def empty() -> Iterator[Serving]:
    """A server whose models are still loading."""
    with serving() as server:
        yield server


def test_the_page_is_sent_with_its_policy_while_models_load(empty: Serving) -> None:
    response, content = empty.get("/", accept=BROWSER_ACCEPT)
    assert response.status == 200
    assert content == (FOLDER / page.INDEX).read_bytes()
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["vary"] == "accept"
    found = {name: response.headers[name] for name in page.HEADERS}
    assert found == {
        "content-security-policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }


@pytest.mark.parametrize("accept", ["*/*", "application/json", ""])
def test_a_probe_gets_a_line_of_text(empty: Serving, accept: str) -> None:
    response, content = empty.get("/", accept=accept)
    assert (response.status, content) == (200, b"quoit is running")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert empty.get("/", "HEAD")[0].status == 200


@pytest.mark.parametrize("name", sorted(page.STATIC_FILES))
def test_a_file_of_the_page_has_its_media_type(empty: Serving, name: str) -> None:
    response, content = empty.get(f"/static/{name}")
    assert (response.status, content) == (200, (FOLDER / name).read_bytes())
    assert response.headers["content-type"].partition(";")[0] == page.STATIC_FILES[name]
    assert all(response.headers[header] == value for header, value in page.HEADERS.items())


@pytest.mark.parametrize(
    "name", ["", "index.html", "page.py", "../page.py", "..%2fpage.py", "%2e%2e/app.py", "STYLE.CSS", "\\"]
)
def test_other_names_are_not_found(empty: Serving, name: str) -> None:
    response, content = empty.get(f"/static/{name}")
    assert response.status == 404
    assert json.loads(content)["error"]["code"] == "not_found"


def test_the_page_needs_no_key_and_its_data_does() -> None:
    with serving(Settings(keys={"a": KEY})) as server:
        assert server.get("/", accept=BROWSER_ACCEPT)[0].status == 200
        assert server.get("/static/main.js")[0].status == 200
        assert server.get("/info")[0].status == 401
        assert server.get("/metrics")[0].status == 401


def test_without_a_page_probes_are_still_answered() -> None:
    with serving(Settings(ui=False)) as server:
        response, content = server.get("/", accept=BROWSER_ACCEPT)
        assert (response.status, content) == (200, b"quoit is running")
        assert server.get("/static/main.js")[0].status == 404


def test_metrics_name_the_route_and_not_the_file(empty: Serving) -> None:
    empty.get("/static/no-such-file")
    empty.get("/static/main.js")
    text = empty.get("/metrics")[1].decode()
    assert 'route="/static/{name}",status="404"' in text
    assert "no-such-file" not in text
    assert "main.js" not in text


def test_all_files_are_served_and_small() -> None:
    assert {file.name for file in FILES} == {page.INDEX, *page.STATIC_FILES}
    assert 30_000 < sum(file.stat().st_size for file in FILES) <= MOST_BYTES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_sources_insert_no_markup_and_know_no_other_place(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "Storage"):
        assert word not in text, word
    assert not re.search(r"""<[^>]*\s(on\w+|style)=|<style|javascript:|setAttribute\("style""", text)
    found = set(re.findall(r"https?://[^\s\"'`$)]+", text))
    assert found <= {"http://www.w3.org/2000/svg"}


def test_ids_of_the_sources_are_in_the_page() -> None:
    html = (FOLDER / page.INDEX).read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    for file in FOLDER.glob("*.js"):
        text = file.read_text(encoding="utf-8")
        used = set(re.findall(r'(?:\$|say|showError|describe)\("([^"]+)"', text))
        assert used <= set(ids) | {"search-latency"}, file.name
    for name in re.findall(r'(?:for|aria-controls|aria-labelledby)="([^"]+)"', html):
        assert name in ids


# From here on: in a browser.

in_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not here; install it, for example apt install chromium"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """The small real models."""
    from quoit_export.checkpoint.checkpoint import open_checkpoint
    from quoit_export.export import Request, publish

    folder = tmp_path_factory.mktemp("models")
    for name in NAMES:
        publish(open_checkpoint(str(ROOT / "models" / name)), Request(folder / name, ("fp32",), verify=False))
    embedding, reranker = (str(folder / name) for name in NAMES)
    return Served(embedding, reranker)


@pytest.fixture(scope="module")
def server(models: Served) -> Iterator[Serving]:
    """A server with both models."""
    with serving(Settings(), models) as found:
        yield found


@pytest.fixture
def opened(browser: Browser, server: Serving) -> Iterator[Browser]:
    """The page of a server that is ready; nothing may have gone wrong in its console at the end."""
    open_page(browser, server)
    yield browser
    browser.offline(False)
    assert problems(browser) == []


def open_page(browser: Browser, server: Serving) -> None:
    browser.look(1180, 900)
    browser.command("Emulation.setScrollbarsHidden", hidden=True)
    browser.problems.clear()
    browser.open(f"{server.address}/")
    browser.wait("document.body.dataset.state === 'ready'")
    browser.wait("document.querySelectorAll('#compare-with tbody tr').length")


def problems(browser: Browser) -> list[str]:
    """What went wrong in the page, besides requests that the server refused."""
    browser.evaluate("1")
    return [problem for problem in browser.problems if not problem.startswith("network: ")]


def embedder(server: Serving) -> Embedder:
    assert server.models is not None
    assert server.models.embedder is not None
    return server.models.embedder.embedder


def compare(browser: Browser, queries: list[str], documents: list[str]) -> None:
    browser.write("#compare-queries", "\n".join(queries))
    browser.write("#compare-documents", "\n\n".join(documents))
    shape = [len(queries), len(documents) + 1]
    rows = "document.querySelectorAll('#compare-with tbody tr')"
    browser.wait(f"{rows}.length === {shape[0]} && {rows}[0].children.length === {shape[1]}")


def map_of(browser: Browser, name: str) -> NDArray[np.float64]:
    """The cosines of a map, as they are written."""
    cells = browser.evaluate(
        f"[...document.querySelectorAll('#compare-{name} tbody tr')].map("
        "row => [...row.querySelectorAll('td')].map(cell => cell.innerText))"
    )
    return np.array([[float(cell.replace("\u2212", "-")) for cell in row] for row in cells])


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def embed_text(browser: Browser, text: str) -> None:
    browser.click("#tab-search")
    browser.write("#search-text", text)
    browser.click("#search-start")
    browser.wait("document.querySelector('#search-count').innerText.endsWith('all embedded')")


def found_texts(browser: Browser, name: str = "search") -> list[str]:
    found: list[str] = browser.evaluate(
        f"[...document.querySelectorAll('#{name}-results li p')].map(each => each.innerText)"
    )
    return found


class TestInABrowser:
    """What a person does."""

    pytestmark = in_browser

    def test_the_page_waits_for_the_models_by_itself(self, browser: Browser, models: Served) -> None:
        with serving() as server:
            browser.problems.clear()
            browser.open(f"{server.address}/")
            browser.wait("document.body.dataset.state === 'loading'")
            assert "the model is still loading" in browser.text("#notice")
            server.load(replace(models, reranker=None))
            browser.wait("document.body.dataset.state === 'ready'")
            browser.wait("document.querySelectorAll('#compare-with tbody tr').length")
            assert browser.text("#notice") == ""
            browser.click("#tab-search")
            assert browser.evaluate("document.querySelector('#search-reranker').hidden")
        assert problems(browser) == []

    def test_compare_shows_the_cosines_of_the_runtime(self, opened: Browser, server: Serving) -> None:
        compare(opened, QUERIES, DOCUMENTS)
        model = embedder(server)
        documents = model.encode_document(DOCUMENTS)
        np.testing.assert_allclose(map_of(opened, "with"), model.encode_query(QUERIES) @ documents.T, atol=0.0051)
        np.testing.assert_allclose(map_of(opened, "without"), model.encode_document(QUERIES) @ documents.T, atol=0.0051)
        assert opened.text("#compare-ranks-summary").startswith("This is the reference")

    def test_dimensions_and_numbers_change_without_a_request(self, opened: Browser, server: Serving) -> None:
        compare(opened, QUERIES, DOCUMENTS)
        before, model = server.requests(), embedder(server)
        queries, documents = model.encode_query(QUERIES), model.encode_document(DOCUMENTS)
        for dimensions in (200, 64, 32):
            opened.write("#compare-dimensions", str(dimensions))
            left, right = unit(queries[:, :dimensions]), unit(documents[:, :dimensions])
            wanted = {
                "float32": left @ right.T,
                "int8": unit(to_integers(left, "int8").astype(np.float32))
                @ unit(to_integers(right, "int8").astype(np.float32)).T,
                "binary": 1 - 2 * ((left > 0)[:, None] != (right > 0)[None]).mean(axis=2),
            }
            for form, cosines in wanted.items():
                opened.click(f"input[value={form}]")
                np.testing.assert_allclose(map_of(opened, "with"), cosines, atol=0.0051, err_msg=form)
        assert opened.text("#compare-size") == "4 bytes a vector, 384\u00d7 smaller"
        assert server.requests() == before

    def test_rank_changes_are_those_of_the_orders(self, opened: Browser, server: Serving) -> None:
        compare(opened, QUERIES, DOCUMENTS)
        opened.write("#compare-dimensions", "32")
        opened.click("input[value=binary]")
        model = embedder(server)
        whole = model.encode_query(QUERIES) @ model.encode_document(DOCUMENTS).T
        rows = opened.evaluate(
            "[...document.querySelectorAll('#compare-ranks tr')].map(row => [...row.querySelectorAll('li')].map("
            "item => [item.firstChild.data, item.querySelector('.move')?.getAttribute('aria-label') ?? '']))"
        )
        for row, scores in zip(rows, whole, strict=True):
            before = [f"D{index + 1}" for index in np.argsort(-scores, kind="stable")]
            for place, (name, words) in enumerate(row):
                moved = before.index(name) - place
                assert words == ("" if moved == 0 else f"{'up' if moved > 0 else 'down'} {abs(moved)}")

    def test_texts_are_texts(self, opened: Browser) -> None:
        hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
        compare(opened, [hostile], [hostile, "plain"])
        embed_text(opened, f"{hostile}\n\nplain")
        opened.write("#search-query", hostile)
        opened.wait("document.querySelectorAll('#rerank-results li').length")
        opened.click("#tab-tokens")
        opened.write("#tokens-text", hostile)
        opened.wait("document.querySelector('#tokens-list').innerText.includes('script')")
        assert opened.evaluate("document.querySelectorAll('main img, main script').length") == 0
        assert hostile in found_texts(opened)[0]

    def test_search_finds_in_the_order_of_the_runtime(self, opened: Browser, server: Serving, tmp_path: Path) -> None:
        file = tmp_path / "notes.md"
        file.write_text(TEXT, encoding="utf-8")
        opened.click("#tab-search")
        opened.choose_file("#search-file", file)
        opened.wait("document.querySelector('#search-text').value.startsWith('# Animals')")
        assert opened.text("#search-count") == "3 passages"
        opened.click("#search-start")
        opened.wait("document.querySelector('#search-count').innerText === '3 passages, all embedded'")
        assert re.fullmatch(r"\d+ tokens in .+ m?s \u00b7 [\d,]+ tokens/s", opened.text("#search-speed"))
        query = "how high is the peak"
        opened.write("#search-query", query)
        opened.wait("document.querySelector('#search-results p')?.innerText.startsWith('Mountains')")
        opened.wait("!document.querySelector('#rerank-results').classList.contains('old')")
        passages = [part.strip() for part in re.split(r"(?m)^(?=# )", TEXT) if part.strip()]
        scores = embedder(server).encode_query(query) @ embedder(server).encode_document(passages).T
        shown = [re.sub(r"^# ", "", re.sub(r"\n+", "\n", text)) for text in passages]
        order = np.argsort(-scores, kind="stable")
        assert found_texts(opened) == [shown[index] for index in order]
        assert re.match(r"[\d.]+ m?s", opened.text("#search-latency"))
        assert server.models is not None
        assert server.models.reranker is not None
        best = server.models.reranker.reranker.rank(query, [passages[index] for index in order])
        assert found_texts(opened, "rerank") == [shown[order[item["index"]]] for item in best]
        shares = opened.evaluate("[...document.querySelectorAll('#rerank-results .score')].map(each => each.innerText)")
        assert [float(share.removesuffix(" %")) for share in shares] == pytest.approx(
            [100 * item["score"] for item in best], abs=0.06
        )

    def test_the_last_query_wins(self, opened: Browser) -> None:
        embed_text(opened, TEXT)
        for query in ("what do cats eat", "when does the train leave", "how high is the peak"):
            opened.write("#search-query", query)
            opened.evaluate("new Promise(done => setTimeout(done, 125))")
        opened.wait("document.querySelector('#search-results p')?.innerText.startsWith('Mountains')")
        opened.evaluate("new Promise(done => setTimeout(done, 500))")
        assert found_texts(opened)[0].startswith("Mountains")

    def test_a_failed_request_loses_nothing(self, opened: Browser) -> None:
        embed_text(opened, TEXT)
        opened.write("#search-query", "how high is the peak")
        opened.wait("document.querySelectorAll('#rerank-results li').length === 3")
        before = found_texts(opened)
        opened.offline(True)
        opened.write("#search-query", "what do cats eat")
        opened.wait("!document.querySelector('#search-query-error').hidden")
        assert "No answer: the server cannot be reached" in opened.text("#search-query-error")
        assert found_texts(opened) == before
        opened.write("#search-text", TEXT + "\n# Ships\n\nThe ship has sailed.")
        assert opened.text("#search-start") == "Continue"
        opened.click("#search-start")
        opened.wait("!document.querySelector('#search-error').hidden")
        assert opened.text("#search-count") == "4 passages, 1 to embed"
        opened.offline(False)
        opened.click("#search-error button")
        opened.wait("document.querySelector('#search-count').innerText === '4 passages, all embedded'")
        opened.wait("document.querySelector('#search-results p').innerText.startsWith('Animals')")
        assert opened.evaluate("document.querySelector('#search-error').hidden")

    def test_an_error_is_shown_as_the_server_wrote_it(self, opened: Browser) -> None:
        opened.write("#compare-queries", "a lone surrogate: ?")
        opened.evaluate("document.querySelector('#compare-queries').value = 'a lone surrogate: \\ud800'")
        opened.evaluate("document.querySelector('#compare-queries').dispatchEvent(new Event('input'))")
        opened.wait("!document.querySelector('#compare-error').hidden")
        assert opened.text("#compare-error").startswith("Error 400: the body is no JSON")

    def test_tokens_show_the_prompt_and_the_cut(self, opened: Browser) -> None:
        opened.click("#tab-tokens")
        rows = "[...document.querySelectorAll('#tokens-counts div')]"
        counts = f"Object.fromEntries({rows}.map(each => each.innerText.split('\\n')))"
        opened.write("#tokens-text", "one two three four five six")
        opened.wait(f"{counts}.text === '6'")
        found = opened.evaluate(counts)
        prompt = int(found["prompt"])
        assert (found["special"], found["lost"]) == ("1", "0")
        assert prompt > 10
        assert opened.evaluate("document.querySelectorAll('#tokens-list .prompt').length") == prompt
        opened.write("#tokens-limit", str(prompt + 5))
        assert opened.evaluate(counts)["lost"] == "2"
        assert opened.text("#tokens-list .cut") == "cut here: 2 tokens lost"
        lost = opened.evaluate("[...document.querySelectorAll('#tokens-list .lost .text')].map(each => each.innerText)")
        assert lost == ["\u2423five", "\u2423six"]
        opened.click("input[name=tokens-prompt][value=none]")
        opened.wait(f"{counts}.prompt === '0'")
        assert opened.evaluate(counts)["lost"] == "0"

    def test_a_key_is_asked_for_and_kept_in_memory_alone(self, browser: Browser, models: Served) -> None:
        with serving(Settings(keys={"a": KEY}), replace(models, reranker=None)) as server:
            browser.problems.clear()
            browser.open(f"{server.address}/#server")
            browser.wait("document.activeElement.id === 'key'")
            assert "this server asks for an API key" in browser.text("#key-message")
            for wrong in ("wrong", "not \u00e4scii"):
                browser.write("#key", wrong)
                browser.press("Enter")
                browser.wait("document.querySelector('#key-message').innerText.startsWith('The key was refused')")
            browser.write("#key", KEY)
            browser.press("Enter")
            browser.wait("document.body.dataset.state === 'ready'")
            assert browser.evaluate("document.querySelector('#key-panel').hidden")
            browser.wait("document.querySelector('#server-tiles dd')")
            assert "Authorization: Bearer $QUOIT_API_KEY" in browser.text("#server-snippet")
            kept = browser.evaluate(
                "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
            )
            assert KEY not in kept
            assert KEY not in browser.evaluate("document.documentElement.outerHTML")
        assert problems(browser) == []

    def test_the_keyboard_alone_is_enough(self, opened: Browser) -> None:
        opened.press("Tab")
        assert opened.evaluate("document.activeElement.id") == "tab-compare"
        for key, name in (
            ("ArrowRight", "search"),
            ("End", "server"),
            ("ArrowRight", "compare"),
            ("ArrowLeft", "server"),
        ):
            opened.press(key)
            assert opened.evaluate("document.activeElement.id") == f"tab-{name}"
            assert opened.evaluate("document.querySelectorAll('[role=tab][aria-selected=true]').length") == 1
            visible = opened.evaluate(
                "[...document.querySelectorAll('[role=tabpanel]')].filter(each => !each.hidden).map(each => each.id)"
            )
            assert visible == [name]
        opened.press("Home", "Tab")
        assert opened.evaluate("document.activeElement.id") == "compare-queries"
        opened.press("Tab", "Tab")
        assert opened.evaluate("document.activeElement.id") == "compare-dimensions"
        opened.press("ArrowLeft")
        assert opened.text("#compare-dimensions-value") == "383 of 384"
        assert opened.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        opened.press("Tab", "ArrowRight")
        assert opened.evaluate("document.querySelector('[name=compare-form]:checked').value") == "int8"

    def test_the_server_s_numbers_and_examples_are_there(self, opened: Browser, server: Serving) -> None:
        opened.click("#tab-server")
        opened.wait("document.querySelector('#server-histogram li')")
        opened.wait("/^[0-9]/.test(document.querySelectorAll('#server-tiles dd')[2].innerText)")
        tiles = opened.text("#server-tiles")
        assert re.search(r"Saved by sharing\n[\d.]+ %\n[\d,]+ of [\d,]+ tokens not computed", tiles)
        assert re.search(r"median\n[\d.]+ m?s", opened.text("#server-times"))
        for program, words in {
            "curl": "-d '{",
            "OpenAI": f'base_url="{server.address}/v1"',
            "LangChain": "check_embedding_ctx_length=False",
            "LiteLLM": "openai/quoit-embedding-9m",
            "Open WebUI": f"RAG_EXTERNAL_RERANKER_URL={server.address}/v1/rerank",
        }.items():
            opened.click(f"input[value='{program}']")
            assert words in opened.text("#server-snippet")
            assert server.address in opened.text("#server-snippet")
        opened.click("#server-copy")
        opened.wait("/Copied|Selected/.test(document.querySelector('#server-copied').innerText)")

    def test_a_server_without_an_embedder_says_so(self, browser: Browser, models: Served) -> None:
        with serving(Settings(), replace(models, embedder=None)) as server:
            browser.problems.clear()
            browser.open(f"{server.address}/")
            browser.wait("document.body.dataset.state === 'ready'")
            assert "no embedding model" in browser.text("#compare")
            browser.click("#tab-tokens")
            browser.wait("document.querySelector('#tokens-list li')")
            assert "\u0120" not in browser.text("#tokens-list")
            browser.click("#tab-server")
            assert "no embedding model" in browser.text("#server-snippet")
            assert "/rerank" in browser.text("#server-snippet")
        assert problems(browser) == []

    def test_all_sections_fit_all_screens(self, opened: Browser) -> None:
        embed_text(opened, TEXT)
        opened.wait("document.querySelectorAll('#rerank-results li').length")
        opened.click("#tab-server")
        opened.wait("document.querySelector('#server-histogram li')")
        backgrounds = set()
        for section in SECTIONS:
            opened.click(f"#tab-{section}")
            for name, width, dark in (("light", 1180, False), ("dark", 1180, True), ("phone", 390, False)):
                opened.look(width, 844, dark=dark)
                assert opened.evaluate("document.documentElement.scrollWidth") <= width, (section, name)
                backgrounds.add((dark, opened.evaluate("getComputedStyle(document.body).backgroundColor")))
                if "QUOIT_SHOTS" in os.environ:
                    opened.screenshot(Path(os.environ["QUOIT_SHOTS"]) / f"page-{section}-{name}.png")
        assert len(backgrounds) == 2

    def test_nothing_is_asked_of_another_place(self, opened: Browser, server: Serving) -> None:
        asked = opened.evaluate("performance.getEntriesByType('resource').map(each => each.name)")
        assert len(asked) > 10
        assert all(address.startswith(server.address) for address in asked)
