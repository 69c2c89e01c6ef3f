"""The page of browser_demo in a headless Chromium: its text is the text of Python."""

import contextlib
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import lab_server
import numpy as np
import pytest
import soundfile
import soxr
from lab_server import ALLOWED, browse

from ptlab._export.web_runtime import find_web_runtime
from ptlab.audio import SAMPLE_RATE
from ptlab.browser import browser_demo
from ptlab.data import load_corpus
from ptlab.errors import ModelError
from ptlab.export import export_onnx
from ptlab.metrics import cer
from ptlab.quantize import quantize
from ptlab.transcribe import Transcriber

pytestmark = pytest.mark.browser

CLIPS = (0, 24, 35, 66, 90, 100)  # of the test split
READY = "() => document.getElementById('file')?.disabled === false"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of mini's exports by precision."""
    folder = tmp_path_factory.mktemp("models")
    whole = export_onnx("mini", folder / "float32")
    made = {"float32": whole, "int4": quantize(whole, folder / "int4", "int4")}
    made["int4 and float16"] = quantize(made["int4"], folder / "int4_float16", "float16")
    both = ["MatMul", "Conv"]
    made["all in int4"] = quantize(whole, folder / "int4_all", "int4", operators=both)
    made |= {m: quantize(whole, folder / m, m) for m in ("float16", "int8_dynamic")}
    products = quantize(made["int8_dynamic"], folder / "products", "int8_convolutions")
    return made | {"int8_dynamic and convolutions": products}


@pytest.fixture(scope="module")
def serve(models):
    """``serve(precision)``: the served page of an export."""
    try:
        find_web_runtime()
    except ModelError as error:
        pytest.skip(str(error))
    with contextlib.ExitStack() as pages:
        made = {}

        def serve(precision):
            if precision not in made:
                made[precision] = pages.enter_context(browser_demo(models[precision]))
            return made[precision]

        yield serve


@pytest.fixture
def show(serve, tmp_path):
    """``show(precision)``: the page in a browser, its model loaded."""

    @contextlib.contextmanager
    def show(precision, *flags):
        with browse(serve(precision).url, tmp_path / "page.png", *flags) as page:
            page.wait_for_function(READY)
            yield page
            page.screenshot(path=tmp_path / "page.png", full_page=True)

    return show


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Clips of the corpus as WAV files of 16 bits."""
    folder, corpus = tmp_path_factory.mktemp("clips"), load_corpus("test")
    paths = [folder / f"{i}.wav" for i in CLIPS]
    for i, path in zip(CLIPS, paths, strict=True):
        soundfile.write(path, corpus.audio(i).waveform, SAMPLE_RATE, subtype="PCM_16")
    return paths


def hear(page, path):
    """Text, and rows of the table, of a file that is chosen."""
    page.set_input_files("#file", path)
    page.wait_for_function(READY)
    assert page.inner_text("#status").startswith("Done"), page.inner_text("#status")
    rows = page.evaluate(
        "() => [...document.querySelectorAll('#words tr')].map((row) => "
        "[...row.cells].map((cell) => cell.textContent))"
    )
    return page.inner_text("#text").strip(), rows


@pytest.mark.parametrize(
    "precision", ["float32", "float16", "int4", "int4 and float16", "all in int4"]
)
def test_text_times_and_confidences_are_those_of_python(show, models, files, precision):
    """Where activations are not rounded, another runtime changes the fifth digit only."""
    transcriber = Transcriber(models[precision].load(device="cpu"))
    with show(precision) as page:
        for path in files:
            text, rows = hear(page, path)
            expected = transcriber.transcribe(path)
            assert text == expected.text != ""
            assert [word for word, *_ in rows] == [w.text for w in expected.words]
            for (_, start, end, sure), word in zip(rows, expected.words, strict=True):
                assert float(start) == pytest.approx(word.start_s, abs=0.006)
                assert float(end) == pytest.approx(word.end_s, abs=0.006)
                assert float(sure.split()[0]) == pytest.approx(100 * word.confidence, abs=0.6)
        assert page.complaints == []


@pytest.mark.parametrize("precision", ["int8_dynamic", "int8_dynamic and convolutions"])
def test_int8_spells_what_python_spells_but_for_a_letter_here_and_there(
    show, models, files, precision
):
    """int8 rounds what flows through the network, so the fifth digit can tip a letter over.

    Python's own texts changed in 4 of 40 clips when ONNX Runtime was told not to optimise the
    graph, and the page's differed in 6 of the 40, each by a letter or a space.
    """
    transcriber = Transcriber(models[precision].load(device="cpu"))
    expected = [transcriber.transcribe(path).text for path in files]
    with show(precision) as page:
        found = [hear(page, path)[0] for path in files]
    assert sum(a == b for a, b in zip(expected, found, strict=True)) >= len(files) / 2
    assert cer(" ".join(expected), " ".join(found)) < 0.02


def test_a_long_recording_is_transcribed_in_windows(show, models, tmp_path):
    corpus = load_corpus("test")
    waves = [corpus.audio(i).waveform for i in range(12)]
    sound = np.concatenate([w for wave in waves for w in (wave, np.zeros(6_000, np.float32))])
    path = tmp_path / "long.wav"
    soundfile.write(path, sound, SAMPLE_RATE, subtype="PCM_16")
    expected = Transcriber(models["float16"].load(device="cpu")).transcribe(path)
    assert expected.windows >= 3
    with show("float16") as page:
        assert hear(page, path)[0] == expected.text


def test_the_browser_resamples_stereo_of_another_rate(show, models, tmp_path):
    """Its filter is another one than ours, so that a letter may differ."""
    wave = soxr.resample(load_corpus("test").audio(35).waveform, SAMPLE_RATE, 44_100)
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([wave, 0.5 * wave], axis=1), 44_100, subtype="PCM_16")
    expected = Transcriber(models["float16"].load(device="cpu")).transcribe(path).text
    with show("float16") as page:
        assert cer(expected, hear(page, path)[0]) < 0.05


def test_the_microphone_with_the_keyboard_alone(show, tmp_path):
    sound = np.concatenate([load_corpus("test").audio(i).waveform for i in (35, 100)])
    path = tmp_path / "microphone.wav"
    soundfile.write(path, sound, SAMPLE_RATE, subtype="PCM_16")
    file = f"--use-file-for-fake-audio-capture={path}%noloop"
    with show("float16", ALLOWED, file) as page:
        for _ in range(2):  # the file, then the button
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.getElementById('meter').value > -50")
        page.wait_for_timeout(6_000)
        assert page.inner_text("#record") == "■ Stop"
        page.keyboard.press("Enter")
        page.wait_for_function(READY)
        assert page.inner_text("#status") == "Done."
        assert len(page.inner_text("#text")) > 20
        assert page.evaluate("() => document.activeElement.id") == "record"


def test_what_is_no_sound_is_told_in_plain_words(show, tmp_path):
    (tmp_path / "letter.wav").write_text("Isto não é som.")
    soundfile.write(tmp_path / "short.wav", np.zeros(300), SAMPLE_RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    with show("float16") as page:
        for name, said in (
            ("letter.wav", "The browser cannot read this file as sound."),
            ("short.wav", "The sound is too short"),
            ("silent.wav", "Done. The sound is silent: is the microphone muted?"),
        ):
            page.set_input_files("#file", tmp_path / name)
            page.wait_for_function(READY)
            assert page.inner_text("#status").startswith(said), name


def test_nothing_leaves_the_page(show, serve, files):
    """It asks its own server alone, and cannot do otherwise: another one hears nothing."""
    heard = []

    class Listener(BaseHTTPRequestHandler):
        def handle_one_request(self):
            heard.append(self.rfile.readline())

    server = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    other = f"http://127.0.0.1:{server.server_port}/"
    with show("float16") as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        hear(page, files[0])
        own = serve("float16").url
        assert all(url.startswith((own, f"blob:{own}")) for url in asked), asked
        for attempt in (
            "fetch(url, { mode: 'no-cors', method: 'POST', body: 'sound' })",
            "new Promise((done, no) => Object.assign(new Image(), "
            "{ onload: done, onerror: no, src: url }))",
            "import(url)",
        ):
            refused = f"(url) => {attempt}.then(() => false, () => true)"
            assert page.evaluate(refused, other), attempt
        page.evaluate("(url) => navigator.sendBeacon(url, 'sound')", other)
        page.wait_for_timeout(500)
    server.shutdown()
    server.server_close()
    assert heard == []


def test_a_notebook_shows_it_with_one_thread(serve, models, files, tmp_path):
    source, runtime = os.fspath(models["float16"]), os.fspath(find_web_runtime())
    for name in ("lab", "home"):
        (tmp_path / name).mkdir()
    cell = f"import ptlab\nptlab.browser_demo({source!r}, runtime={runtime!r})"
    lab_server.write_notebook(tmp_path / "lab" / "page.ipynb", cell)
    with (
        lab_server.serve(tmp_path / "lab", tmp_path / "home") as address,
        browse(address("127.0.0.1", "page.ipynb"), tmp_path / "notebook.png") as page,
    ):
        lab_server.run_first_cell(page)
        frame = page.wait_for_selector(".jp-OutputArea iframe").content_frame()
        frame.wait_for_function(READY)
        assert "threads: 1 (inside another page" in frame.inner_text("#about")
        frame.set_input_files("#file", files[0])
        frame.wait_for_function(READY)
        assert frame.inner_text("#status") == "Done."


def test_in_a_tab_of_its_own_it_uses_threads(show):
    with show("float16") as page:
        cores = page.evaluate("() => navigator.hardwareConcurrency")
        assert f"threads: {min(4, cores)}." in page.inner_text("#about")
