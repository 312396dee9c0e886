"""The page in headless Chromium: every task is driven, and its result read from the page.

Without Playwright (requirements-browser.txt) or Chromium these tests are skipped. With
SCREENSHOTS=DIR they write pictures of the page at several sizes.
"""

import contextlib
import os
import re
import shutil
import threading
from pathlib import Path

import pytest

import tasks
from app import train
from app.serving.demo import catalogue, http_server
from tests.conftest import SMALL, where
from tests.support import untrained

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed"),
]
SECONDS = 120
TEXT = "the old film is <b>dull</b> & far from good"


@contextlib.contextmanager
def serving(models):
    """A server of the page for some models."""
    rate = http_server.RateLimit(10_000, 1000)
    with http_server.DemoServer(models, rate=rate) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def server(untrained_versions):
    with serving(catalogue.local(untrained_versions, tasks.names())) as server:
        yield server


@pytest.fixture(scope="module")
def streams(tmp_path_factory, untrained_copy):
    """A server of the page for models that read streams, and the folder of these."""
    folder = tmp_path_factory.mktemp("streams")
    for task in untrained.STREAMS:
        untrained_copy(task, folder, streams=True)
    with serving(catalogue.local(folder, list(untrained.STREAMS))) as server:
        yield server, folder


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, server):
    with opened(browser, server) as page:
        yield page


@pytest.fixture
def stream_page(browser, streams):
    """The page of models that read streams."""
    with opened(browser, streams[0]) as page:
        yield page


@contextlib.contextmanager
def opened(browser, server):
    """The page, opened at the size of a phone; errors of its scripts fail the test."""
    context = browser.new_context(viewport={"width": 360, "height": 800})
    page, errors = context.new_page(), []
    page.set_default_timeout(1000 * SECONDS)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if "Policy" in line.text else None)
    page.on("request", lambda request: errors.extend(_foreign(request.url, server.url)))
    page.goto(server.url)
    yield page
    context.close()
    assert not errors


def _foreign(url, page):
    """What the page loads from elsewhere."""
    return [] if url.startswith((page, "blob:", "data:")) else [url]


def send(page, task, text):
    """Sends a text to a model, and waits for the gates, which come last."""
    page.get_by_role("button", name=task, exact=True).click()
    page.get_by_label("text", exact=True).fill(text)
    page.get_by_role("button", name="Send", exact=True).click()
    page.wait_for_selector("#gates canvas")


def picture(page, name):
    """Writes pictures of the page if the tests are asked for them."""
    folder = os.environ.get("SCREENSHOTS")
    if not folder:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    for width in (360, 800, 1440):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=Path(folder, f"{name}-{width}-{scheme}.png"), full_page=True)


def fits(page):
    """Whether nothing of the page is wider than the screen."""
    script = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    return page.evaluate(script)


def test_sentiment_has_probabilities_contributions_and_gates(page):
    send(page, "sentiment", TEXT)
    card = page.locator(".response")
    assert {"negative", "positive"} <= set(card.locator(".bars > span").all_inner_texts())
    words = card.locator(".contributions .words > span")
    assert words.all_inner_texts()[:3] == ["the", "old", "film"]
    assert re.fullmatch(r"[+\u2212]\d+\.\d %", words.first.get_attribute("title"))
    assert card.locator("b").count() == 0  # the tags of the text stay text
    assert TEXT in card.locator("pre").text_content()
    assert "version 1" in card.locator(".meta").inner_text()
    assert "h' = output * tanh(c')" in page.locator("#rest pre").inner_text()
    assert fits(page)
    picture(page, "sentiment")


def test_gates_are_read_by_pointer_and_keyboard(page):
    send(page, "sentiment", "a dull film")
    readout, canvas = page.locator("#gates .readout"), page.locator("#gates canvas[tabindex]").first
    canvas.hover(position={"x": 5, "y": 3})
    assert "forget gate, step 1 (a), unit" in readout.inner_text()
    canvas.focus()
    page.keyboard.press("ArrowRight")
    assert "step 2 (dull)" in readout.inner_text()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert re.search(r"step 1 \(a\), unit \d+: 0\.\d\d", readout.inner_text())
    assert page.locator("#gates select option").count() == 2


def shown_response(page, changed):
    """Sends an example of sentiment, with other values in the response, and returns the card."""

    def change(route):
        response = route.fetch()
        content = response.json()
        for row in content["rows"]:
            row.update(changed)
        route.fulfill(response=response, json=content)

    page.route("**/api/predict", change)
    page.get_by_role("button", name="sentiment", exact=True).click()
    page.get_by_label("text", exact=True).fill("a dull film")
    page.get_by_role("button", name="Send", exact=True).click()
    page.wait_for_selector("#gates canvas")
    return page.locator(".response")


def test_long_names_leave_room_for_bars_and_nan_is_no_number(page):
    card = shown_response(page, {"labels": ["x" * 80, "b"], "probabilities": [None, 0.5]})
    assert card.locator(".bar").first.bounding_box()["width"] > 40
    assert "not a number" in card.locator(".bars").inner_text()
    assert fits(page)


def test_a_text_that_is_no_tree_has_no_classes(page):
    card = shown_response(page, {"valid": False})
    assert "This is not a tree that the model reads." in card.inner_text()
    assert card.locator(".bars, .contributions").count() == 0


def test_trees_have_saliency_and_neither_gates_nor_contributions(browser, tmp_path):
    train.main(["sentiment", "--trees", "--steps-per-epoch", "2", *SMALL, *where(tmp_path)])
    [model] = catalogue.local(tmp_path / "saved_models", ["sentiment"])
    with serving([model]) as server, opened(browser, server) as page:
        page.locator(".examples button").first.click()
        page.locator("#saliency h2").wait_for()
        assert "Gates and states are shown of sequences only" in page.locator("#gates").inner_text()
        assert page.locator("#gates select, .contributions").count() == 0
        assert page.locator(".response .bars").count() == 1
        picture(page, "trees")


def test_the_first_reading_is_over_the_words_and_labels_are_whole(page):
    send(page, "tagging", "international WWWWWWWWWWWW abcdefghij𝒜xyzw")
    chosen = page.locator("#gates select option:checked").inner_text()
    assert not chosen.startswith("characters of")
    heights = "all => all.map(each => each.height / Math.min(3, devicePixelRatio))"
    labels = page.locator("#gates .maps canvas[aria-hidden]").evaluate_all(heights)
    assert labels[0] > 130  # twelve wide letters


def test_words_of_a_text_from_right_to_left_are_in_its_order(page):
    send(page, "tagging", "שלום עולם טוב")
    boxes = [word.bounding_box() for word in page.locator(".response .tagged").all()]
    rows = {round(box["y"]) for box in boxes}
    assert len(rows) == 1 and boxes[0]["x"] > boxes[1]["x"] > boxes[2]["x"]


def test_a_version_that_was_removed_is_reported(browser, tmp_path, untrained_copy):
    untrained_copy("sentiment", tmp_path)
    [model] = catalogue.local(tmp_path, ["sentiment"])
    shutil.rmtree(tmp_path / "sentiment")
    with serving([model]) as server, opened(browser, server) as page:
        page.get_by_label("text", exact=True).fill("a film")
        page.get_by_role("button", name="Send", exact=True).click()
        page.get_by_text("sentiment/1 has been removed; start app.demo again.").wait_for()


def test_strong_highlights_can_be_read_in_the_dark(page):
    page.emulate_media(color_scheme="dark")
    send(page, "sentiment", TEXT)
    script = """() => ["plus-back", "minus-back"].map(name => {
      const luminance = text => {
        const canvas = document.createElement("canvas").getContext("2d");
        canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
          .map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const style = getComputedStyle(document.documentElement);
      const value = key => style.getPropertyValue(`--${key}`).trim();
      return (luminance(value("text")) + 0.05) / (luminance(value(name)) + 0.05);
    })"""
    assert min(page.evaluate(script)) > 4


def test_an_image_that_is_too_large_is_reported_while_another_is_read(page, tmp_path):
    image = next(iter(untrained.examples("captioning"))).values["image_bytes"]
    (tmp_path / "drawn.png").write_bytes(image)
    (tmp_path / "large.png").write_bytes(bytes(6 * 2**20))
    page.get_by_role("button", name="captioning", exact=True).click()
    field = page.get_by_label("Drop a JPEG or PNG")
    with page.expect_request("**/api/predict"):
        field.set_input_files(tmp_path / "drawn.png")
    field.set_input_files(tmp_path / "large.png")
    page.wait_for_load_state("networkidle")
    assert page.locator("#status .error").inner_text() == "An image has at most 5 MiB."
    assert page.locator("#responses").get_attribute("aria-busy") is None


def test_tags_stand_below_their_words(page):
    send(page, "tagging", "the old man the boats")
    tagged = page.locator(".response .tagged")
    assert [each.splitlines()[0] for each in tagged.all_inner_texts()] == [
        "the",
        "old",
        "man",
        "the",
        "boats",
    ]
    page.locator("#rest summary", has_text="tokens").click()  # a signature with other inputs
    page.locator("#rest input").nth(0).fill("2")
    page.locator("#rest input").nth(1).fill('["old", "boats"]')
    page.locator("#rest form button").click()
    assert page.locator("#rest .tagged").first.inner_text().startswith("old")
    assert fits(page)
    picture(page, "tagging")


def test_tags_follow_while_one_types_and_only_new_text_is_sent(stream_page, streams, here):
    page, folder = stream_page, streams[1]
    page.get_by_role("button", name="tagging", exact=True).click()
    sent, live = [], page.locator(".live")
    page.on("request", lambda request: sent.append(request.post_data_json))
    field = page.get_by_label("text", exact=True)
    assert not live.is_visible()
    field.press_sequentially("the old ")
    live.locator(".tagged").nth(1).wait_for()
    for piece in ("man 🙂 ", "the boats"):
        field.press_sequentially(piece)
    text = "the old man 🙂 the boats"
    live.locator(".tagged").nth(5).wait_for()  # also those that are not final
    [whole] = here(folder / "tagging" / "1").predict([{"text": text}])
    assert shown(live) == [pair.decode().split("/") for pair in paired(whole)]
    fed = [each["rows"][0]["text"] for each in sent if each["signature"] == "feed"]
    assert "".join(fed) == text and len(fed) > 1
    sent.clear()
    field.press("Home")
    field.press_sequentially("and ")
    live.locator(".tagged").nth(6).wait_for()
    [whole] = here(folder / "tagging" / "1").predict([{"text": "and " + text}])
    assert shown(live) == [pair.decode().split("/") for pair in paired(whole)]
    assert "start" not in {each["signature"] for each in sent}  # its state is the first one
    field.fill("")
    live.wait_for(state="hidden")


def shown(live):
    return [each.splitlines() for each in live.locator(".tagged").all_inner_texts()]


def paired(response):
    return [b"/".join(pair) for pair in zip(response["tokens"], response["tags"], strict=True)]


def test_classes_follow_while_one_types_and_translations_do_not(stream_page):
    page = stream_page
    page.get_by_role("button", name="sentiment", exact=True).click()
    page.get_by_label("text", exact=True).press_sequentially("a dull film")
    page.locator(".live .bars").wait_for()
    assert fits(page)
    page.get_by_role("button", name="translation", exact=True).click()
    assert page.locator(".live").count() == 0


def test_an_error_while_one_types_is_shown_in_words(stream_page):
    page = stream_page
    page.get_by_role("button", name="sentiment", exact=True).click()
    page.route("**/api/predict", lambda route: route.fulfill(status=429, json={"error": "Wait."}))
    page.get_by_label("text", exact=True).press_sequentially("a")
    page.locator(".live .error", has_text="Wait.").wait_for()
    page.unroute("**/api/predict")
    page.get_by_label("text", exact=True).press_sequentially(" dull film")
    page.locator(".live .bars").wait_for()
    assert page.locator(".live .error").inner_text() == ""


def test_entities_are_marked_in_their_text(browser, tmp_path, untrained_copy):
    untrained_copy("tagging", tmp_path, data="sample:entities")
    [model] = catalogue.local(tmp_path, ["tagging"])
    text = (
        "🙂 Zoë\u0308 <b>met</b> Anna Tark in  Port Velmar, near 👩‍🚀 Lake Orim and Dr. Brunel's."
    )
    for signature in ("serving_default", "entities"):  # which loads the version
        [response] = model.predict([{"text": text.encode()}], signature)
    spans = zip(response["starts"], response["ends"], response["types"], strict=True)
    expected = [f"{text[start:end]}{type_.decode()}" for start, end, type_ in spans]
    assert expected
    with serving([model]) as server, opened(browser, server) as page:
        page.get_by_label("text", exact=True).fill(text)
        page.get_by_role("button", name="Send", exact=True).click()
        card = page.locator(".response[aria-label=entities]")
        assert card.locator("h2").inner_text() == "Entities"
        assert card.locator("mark").all_text_contents() == expected
        script = "each => [...each.childNodes].map(c => (c.firstChild || c).textContent).join('')"
        assert card.locator(".marked").evaluate(script) == text  # all of it, unchanged
        assert card.locator("b").count() == 0
        assert re.fullmatch(r"\d+\.\d %", card.locator("mark").first.get_attribute("title"))
        assert fits(page)
        picture(page, "entities")


def test_translation_has_alternatives_and_an_alignment(page):
    send(page, "translation", "the women slept .")
    assert page.locator(".response ol li").count() > 1
    card = page.locator(".response[aria-label=align]")
    words = card.get_by_role("group", name="Source").get_by_role("button")
    assert words.first.inner_text() == "the"
    words.first.focus()  # by keyboard, and so by pointer
    assert re.search(r"the: .+ \d+\.\d %", card.locator(".readout").inner_text())
    targets = card.get_by_role("group", name="Target").get_by_role("button")
    assert "color-mix" in targets.first.get_attribute("style")
    assert fits(page)
    picture(page, "translation")


def test_padding_of_beam_search_is_no_alternative(page):
    def pad(route):
        response = route.fetch()
        content = response.json()
        for row in content["rows"]:
            if "translations" in row:
                row["log_probabilities"][1:] = [-1e9] * (len(row["translations"]) - 1)
        route.fulfill(response=response, json=content)

    page.route("**/api/predict", pad)
    send(page, "translation", "the women slept .")
    assert page.locator(".response ol li").count() == 1


def test_a_language_model_has_tokens_next_tokens_and_continues_a_text(page):
    send(page, "language_model", "the women slept .")
    tokens = page.locator(".response[aria-label=serving_default]")
    assert tokens.locator("h2").inner_text() == "Tokens"
    assert tokens.locator(".tagged > span").all_inner_texts()[0].strip("\u2581") == "the"
    assert re.search(r"perplexity of the text \d+", tokens.inner_text())
    following = page.locator(".response[aria-label=next]")
    assert following.locator("h2").inner_text() == "Next tokens"
    shares = [float(text[:-2]) for text in following.locator("li .faint").all_inner_texts()]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 100.1
    page.locator("summary", has_text="generate").click()
    for name, value in (("text", "the"), ("seed", "1"), ("temperature", "0.5"), ("length", "3")):
        page.locator(f"#input-generate-{name}").fill(value)
    page.locator("form", has=page.locator("#input-generate-seed")).get_by_role("button").click()
    page.get_by_role("heading", name="Continuation").wait_for()
    assert fits(page)
    picture(page, "language_model")


def test_an_image_is_captioned_with_attention(page, tmp_path):
    image = next(iter(untrained.examples("captioning"))).values["image_bytes"]
    (tmp_path / "drawn.png").write_bytes(image)
    page.get_by_role("button", name="captioning", exact=True).click()
    page.get_by_label("Drop a JPEG or PNG").set_input_files(tmp_path / "drawn.png")
    page.wait_for_selector("#gates canvas")
    card = page.locator(".response[aria-label=attend]")
    card.get_by_role("button").first.focus()
    assert re.search(r"most at row \d of \d", card.locator(".readout").inner_text())
    assert card.locator("img").evaluate("image => image.naturalWidth") > 0
    assert "photo.jpg" in card.locator("pre").text_content()
    assert fits(page)
    picture(page, "captioning")
    (tmp_path / "text.png").write_text("no image")
    page.get_by_label("Drop a JPEG or PNG").set_input_files(tmp_path / "text.png")
    page.get_by_text("This is not an image that the model reads.").first.wait_for()


def test_an_image_can_be_dropped(page):
    image = next(iter(untrained.examples("captioning"))).values["image_bytes"]
    page.get_by_role("button", name="captioning", exact=True).click()
    script = """bytes => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(bytes)], "a.png", { type: "image/png" }));
      const drop = document.querySelector(".drop");
      drop.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
    }"""
    page.evaluate(script, list(image))
    page.wait_for_selector(".response[aria-label=attend] .stack img")


def test_an_example_is_sent_by_keyboard_alone(page):
    page.get_by_role("button", name="tagging", exact=True).focus()
    page.keyboard.press("Enter")
    page.locator(".examples button").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".response .tagged")


def test_errors_are_shown_in_words(page, server):
    page.get_by_role("button", name="sentiment", exact=True).click()
    page.get_by_label("text", exact=True).fill("a film")
    page.route("**/api/predict", lambda route: route.fulfill(status=429, json={"error": "Wait."}))
    page.keyboard.press("Control+Enter")
    assert page.locator("#status .error").inner_text() == "Wait."


def test_every_control_has_a_name(page):
    send(page, "translation", "the women slept .")
    script = """() => [...document.querySelectorAll("button, select, textarea, input")]
      .filter(each => !(each.textContent.trim() || each.labels?.length || each.ariaLabel
        || each.querySelector("img[alt]"))).map(each => each.outerHTML)"""
    assert page.evaluate(script) == []


def test_a_new_signature_is_shown_without_a_view(page, server):
    """Responses whose outputs no view knows are shown as a table."""

    def rename(route):
        response = route.fetch()
        content = response.json()
        content["rows"] = [{"polarity": 0.25, "<i>note</i>": ["a", "b"]}]
        route.fulfill(response=response, json=content)

    page.route("**/api/predict", rename)
    page.get_by_role("button", name="tagging", exact=True).click()
    page.locator(".examples button").first.click()
    cells = page.locator(".response th").all_inner_texts()
    page.wait_for_selector(".response th")
    cells = page.locator(".response th").all_inner_texts()
    assert cells == ["polarity", "<i>note</i>"]
