"""The page of browser_demo: what is written and served, and its script against ptlab, in node."""

import base64
import hashlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from ptlab import browser, cli
from ptlab._export import web_runtime
from ptlab._export.web_runtime import FILES, find_web_runtime
from ptlab._speech.windows import cut_windows, join_windows
from ptlab.audio import normalize
from ptlab.browser import POLICY, browser_demo, page_facts
from ptlab.confidence import Calibrator
from ptlab.errors import ModelError
from ptlab.onnx_model import load_onnx
from ptlab.transcribe import Transcriber

pytest.importorskip("onnx", reason="writing ONNX files: pip install 'ptlab[export]'")
needs_node = pytest.mark.skipif(
    not shutil.which("node"), reason="needs node: install Node.js to run it"
)
CTC = Path(browser.__file__).parent / "assets" / "browser" / "ctc.mjs"


@pytest.fixture(scope="module")
def model(tiny_export):
    return load_onnx(tiny_export, device="cpu")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """A folder that looks like onnxruntime-web."""
    folder = tmp_path_factory.mktemp("runtime")
    for name in FILES:
        (folder / name).write_text(f"this is {name}")
    return folder


@pytest.fixture(scope="module")
def page(tiny_export, runtime, tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "page"
    with browser_demo(tiny_export, path, runtime=runtime) as demo:
        yield demo


def answer(page, name=""):
    with urllib.request.urlopen(page.url + name, timeout=10) as reply:
        return reply.read(), reply.headers


# What is written and served ---------------------------------------------------------------------


def test_every_file_that_the_page_names_is_there(page):
    texts = [(page.folder / name).read_text("utf-8") for name in ("index.html", "page.mjs")]
    named = re.findall(
        r'(?:src|href)="([\w./]+)"|from "\./([\w./-]+)"|fetched\("([\w.]+)"\)', "".join(texts)
    )
    names = {name for found in named for name in found if name}
    assert names >= {
        "page.mjs",
        "page.css",
        "ctc.mjs",
        "facts.json",
        "model.onnx",
        f"ort/{FILES[0]}",
    }
    assert all((page.folder / name).is_file() for name in names)
    assert page.size_bytes == sum(p.stat().st_size for p in page.folder.rglob("*") if p.is_file())


def test_the_page_knows_what_the_file_knows(page, model):
    facts = json.loads(answer(page, "facts.json")[0])
    for name in (
        "vocabulary", "blank", "word_delimiter", "sampling_rate", "hop", "receptive_field",
        "normalizes", "precision", "size_bytes",
    ):  # fmt: skip
        value = getattr(model, name)
        assert facts[name] == (list(value) if isinstance(value, tuple) else value), name
    assert facts["name"] == "tiny"  # the folder, without the way to it
    assert answer(page, "model.onnx")[0] == model.path.read_bytes()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", "text/html"),
        ("page.mjs", "text/javascript"),
        ("ctc.mjs", "text/javascript"),
        (f"ort/{FILES[1]}", "application/wasm"),
    ],
)
def test_answers_allow_threads_and_forbid_other_addresses(page, name, kind):
    content, headers = answer(page, name)
    assert content and headers.get_content_type() == kind
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Content-Security-Policy"] == POLICY


def test_the_policy_goes_with_the_page_and_names_no_address(page):
    assert f'content="{POLICY}"' in (page.folder / "index.html").read_text("utf-8")
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == "'none'" and rules["connect-src"] == "'self'"
    assert not re.search(r"https?:|\*|unsafe-inline|'unsafe-eval'", POLICY)


def test_it_is_served_to_this_machine_alone(page):
    assert page._server.server_address[0] == "127.0.0.1"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        answer(page, "../page/%2e%2e/%2e%2e/pyproject.toml")


def test_a_notebook_shows_it_in_a_titled_frame_with_the_microphone(page):
    shown = page._repr_html_()
    assert f'src="{page.url}"' in shown and 'title="' in shown
    assert 'allow="microphone' in shown


def test_closing_ends_the_server_and_removes_what_nobody_named(tiny_export, runtime, tmp_path):
    with browser_demo(tiny_export, runtime=runtime) as unnamed:
        assert (unnamed.folder / "index.html").is_file()
    assert not unnamed.folder.exists()
    with browser_demo(tiny_export, tmp_path / "kept", runtime=runtime) as named:
        pass
    assert (named.folder / "index.html").is_file()
    with pytest.raises(urllib.error.URLError):
        answer(named)


def test_what_is_there_and_what_is_taken_is_told(tiny_export, runtime, page):
    with pytest.raises(ModelError, match="is there already: give another path, or overwrite=True"):
        browser_demo(tiny_export, page.folder, runtime=runtime)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ModelError, match=f"port={port} cannot be used"):
            browser_demo(tiny_export, runtime=runtime, port=port)


def test_the_command_serves_until_it_is_interrupted(tiny_export, runtime, monkeypatch, capsys):
    def interrupt(page):
        assert answer(page)[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(browser.BrowserDemo, "wait", interrupt)
    assert cli.main(["browser", str(tiny_export.folder), "--runtime", str(runtime)]) == 130
    url = capsys.readouterr().out.strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=10)


# onnxruntime-web --------------------------------------------------------------------------------


def archive(path, names=FILES):
    with tarfile.open(path, "w:gz") as packed:
        for name in names:
            content = f"content of {name}".encode()
            about = tarfile.TarInfo(f"package/dist/{name}")
            about.size = len(content)
            packed.addfile(about, io.BytesIO(content))
    return path


def put_npm(folder, monkeypatch, script):
    """A program of that name, alone on the PATH with the shell."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin{os.pathsep}/usr/bin")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PTLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def trust(monkeypatch, path):
    digest = hashlib.sha512(path.read_bytes()).digest()
    monkeypatch.setattr(web_runtime, "SHA512", base64.b64encode(digest).decode())


@pytest.mark.skipif(os.name == "nt", reason="its npm is a shell script")
def test_npm_is_asked_once_and_the_cache_after_that(cache, tmp_path, monkeypatch):
    packed = archive(tmp_path / "packed.tgz")
    trust(monkeypatch, packed)
    put_npm(tmp_path / "bin", monkeypatch, f'cp "{packed}" "$5/onnxruntime-web.tgz"')
    found = find_web_runtime()
    assert [(found / name).read_text() for name in FILES] == [f"content of {n}" for n in FILES]
    assert sorted(p.name for p in cache.iterdir()) == [found.name]  # nothing half done is left
    monkeypatch.setenv("PATH", "")
    assert find_web_runtime() == found


@pytest.mark.skipif(os.name == "nt", reason="its npm is a shell script")
def test_an_npm_that_fails_is_quoted(cache, tmp_path, monkeypatch):
    put_npm(tmp_path / "bin", monkeypatch, "echo 'npm error code ENOTFOUND' >&2; exit 3")
    with pytest.raises(ModelError, match=r"\(code 3\): npm error code ENOTFOUND. Is there a net"):
        find_web_runtime()


def test_without_npm_there_is_another_way(cache, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelError, match=r"install Node.js.*npm pack onnxruntime-web@"):
        find_web_runtime()


def test_an_archive_that_was_tampered_with_is_refused(cache, tmp_path):
    with pytest.raises(ModelError, match=r"not the archive of onnxruntime-web@.* nothing was kept"):
        find_web_runtime(archive(tmp_path / "other.tgz"))
    assert not cache.exists()


def test_an_archive_or_a_folder_can_be_given(cache, tmp_path, runtime, monkeypatch):
    packed = archive(tmp_path / "packed.tgz")
    trust(monkeypatch, packed)
    assert (find_web_runtime(packed) / FILES[0]).read_text() == f"content of {FILES[0]}"
    assert find_web_runtime(runtime) == runtime
    shutil.copytree(runtime, tmp_path / "package" / "dist")
    assert find_web_runtime(tmp_path / "package") == tmp_path / "package" / "dist"
    with pytest.raises(ModelError, match=f"lacks {FILES[0]}"):
        find_web_runtime(tmp_path)


# The script -------------------------------------------------------------------------------------


def node(script, **given):
    """What a script prints as JSON that has the functions of ctc.mjs, and ``given``."""
    head = f"""import * as ctc from "{CTC.as_uri()}";
import {{ readFileSync }} from "node:fs";
const given = JSON.parse(readFileSync(0, "utf-8"));
"""
    command = ["node", "--input-type=module", "-e", head + script]
    out = subprocess.run(
        command, input=json.dumps(given), capture_output=True, timeout=60, text=True
    )
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout)


ROWS = "const rows = (m) => m.map((row) => Float32Array.from(row));\n"


def spoken(seed, frames=150, vocab=46):
    """Random log-probs that spell words: blanks, letters of some frames, and spaces."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(3, frames, p=[0.5, 0.35, 0.15])
    tokens = np.choose(kinds, [0, rng.integers(2, vocab, frames), 4])  # 2 is </s>, 3 is <unk>
    logits = rng.normal(0, 1, (frames, vocab))
    tokens = np.repeat(tokens, rng.integers(1, 4, frames))[:frames]
    logits[np.arange(frames), tokens] += rng.uniform(1, 8, frames)
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


CALIBRATIONS = [
    None,
    Calibrator((0.1, 0.3, 0.6), (0.2, 0.7, 0.9), "tsallis", 0.5, "min", 0.5),
    Calibrator((0.1, 0.3, 0.6), (0.2, 0.7, 0.9), "max_prob", 1 / 3, "mean", 0.0),
    Calibrator((0.01, 0.5), (0.0, 1.0), "tsallis", 1 / 3, "prod", 1.0),
]


@needs_node
@pytest.mark.parametrize("calibrator", CALIBRATIONS)
def test_words_times_and_confidences_are_those_of_ptlab(model, calibrator):
    transcriber = Transcriber(model)
    transcriber.calibrator, transcriber.offset_s = calibrator, -0.0325 if calibrator else 0.0
    calibration = calibrator and {"words": calibrator.to_dict(), "offset_s": -0.0325}
    facts = page_facts(model) | {"calibration": calibration}
    matrices = [spoken(seed) for seed in range(6)]
    matrices += [matrices[0][:0], np.log(np.full((3, 46), 1 / 46, np.float32)), spoken(9, 1)]
    script = "given.matrices.map((m) => ctc.words(rows(m), given.facts, m.length * 0.02))"
    found = node(
        f"{ROWS}console.log(JSON.stringify({script}));",
        facts=facts, matrices=[m.tolist() for m in matrices],
    )  # fmt: skip
    total = 0
    for matrix, words in zip(matrices, found, strict=True):
        expected = transcriber.from_log_probs(matrix, len(matrix) * 0.02).words
        assert [w["text"] for w in words] == [w.text for w in expected]
        for name in ("start_s", "end_s", "confidence"):
            values = [getattr(w, name) for w in expected]
            assert [w[name] for w in words] == pytest.approx(values, abs=1e-4), name
        total += len(words)
    assert total > 40


@needs_node
def test_runs_are_of_the_first_of_equal_tokens():
    """Like numpy's argmax; and a blank between two equal letters keeps them two."""
    rows = [[0, 1, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]
    found = node("console.log(JSON.stringify(ctc.greedyRuns(given.rows, 0)));", rows=rows)
    assert [(r["token"], r["first"], r["last"]) for r in found] == [(1, 0, 1), (1, 2, 4), (2, 4, 5)]


@needs_node
def test_windows_are_cut_and_joined_as_ptlab_does_it(model):
    """A minute in windows of 20 s, whose log-probs differ where they overlap."""
    lengths = [0, 400, 319_999, 320_000, 320_001, 576_001, 960_123]
    script = "given.lengths.map((n) => ctc.cutWindows(n, given.facts))"
    cut = node(f"console.log(JSON.stringify({script}));", lengths=lengths, facts=page_facts(model))
    for length, windows in zip(lengths, cut, strict=True):
        expected = cut_windows(model, [np.zeros(length, np.float32)], 20.0, 4.0)
        assert windows == [[start, start + len(wave)] for start, wave in expected]
    runs = [
        (start, spoken(seed, model.frames(end - start)))
        for seed, (start, end) in enumerate(cut[-1])
    ]
    joined = node(
        ROWS + "let all = [];\nfor (const [start, m] of given.runs) "
        "all = ctc.joinWindows(all, rows(m), start / given.facts.hop, given.facts);\n"
        "console.log(JSON.stringify(all.map((row) => Array.from(row))));",
        runs=[(start, m.round(3).tolist()) for start, m in runs], facts=page_facts(model),
    )  # fmt: skip
    expected = join_windows(model, [(start, m.round(3)) for start, m in runs])
    assert len(runs) == 4 and np.array_equal(np.array(joined, np.float32), expected)


@needs_node
def test_normalisation_is_that_of_ptlab(speechlike):
    waveform = speechlike(0.5) + np.float32(0.3)
    script = "console.log(JSON.stringify(Array.from(ctc.normalize(Float32Array.from(given.w)))));"
    assert node(script, w=waveform.tolist()) == pytest.approx(normalize(waveform), abs=1e-4)
    assert node(script, w=[0.0] * 8) == [0.0] * 8  # silence stays silence


# Telephones -------------------------------------------------------------------------------------


def test_the_format_of_telephones_keeps_the_numbers(tiny_export, model, tmp_path, speechlike):
    """As notebook 06 makes it: the graph is optimised once, and vocabulary and grid go along."""
    tool = "onnxruntime.tools.convert_onnx_models_to_ort"
    command = [sys.executable, "-m", tool, str(tiny_export.folder), "--output_dir", str(tmp_path)]
    subprocess.run([*command, "--optimization_style", "Fixed"], check=True, capture_output=True)
    phone = load_onnx(tmp_path / "model.ort", device="cpu")
    assert phone.facts == model.facts
    waves = [speechlike(0.5), speechlike(1.1)]
    for a, b in zip(model.log_probs(waves), phone.log_probs(waves), strict=True):
        assert b == pytest.approx(a, abs=1e-4)
