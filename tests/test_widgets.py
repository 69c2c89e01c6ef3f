"""Recorder and uploader from Python's side, and the WAV file that the browser's side writes."""

import base64
import datetime
import io
import json
import shutil
import subprocess

import ipywidgets
import numpy as np
import pytest
import soundfile

from ptlab import widgets
from ptlab.audio import SAMPLE_RATE
from ptlab.errors import AudioError, PtlabError
from ptlab.models import load_model
from ptlab.transcribe import Transcriber
from ptlab.widgets import recorder, transcribe_widget, uploaded_files, uploader

RECORDER = widgets.Recorder._esm  # the script that the browser gets


def wav(waveform):
    file = io.BytesIO()
    soundfile.write(file, waveform, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def arrive(recorded, content, parts=1):
    """What the browser sends: messages with pieces of base64."""
    text = base64.b64encode(content).decode()
    size = -(-len(text) // parts)
    for i in range(parts):
        piece = {"part": i, "count": parts, "wav": text[i * size : (i + 1) * size]}
        recorded._handle_custom_msg(piece, [])


def choose(upload, **files):
    """Set the value of a FileUpload as the front end of its version does."""
    if ipywidgets.__version__.startswith("7."):
        upload.set_trait("value", {n: {"metadata": {}, "content": c} for n, c in files.items()})
        return
    now = datetime.datetime.now(datetime.UTC)
    upload.value = tuple(
        {"name": n, "type": "", "size": len(c), "content": memoryview(c), "last_modified": now}
        for n, c in files.items()
    )


@pytest.fixture(scope="module")
def transcriber(tiny_folder):
    return Transcriber(load_model(tiny_folder, device="cpu"))


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_a_recording_is_the_same_in_one_piece_or_many(parts, speechlike):
    heard = []
    recorded = recorder(heard.append)
    waveform = speechlike(0.7)
    arrive(recorded, wav(waveform), parts)
    assert heard == [recorded.audio]
    assert np.abs(recorded.audio.waveform - waveform).max() <= 1 / 32768
    assert recorded.status == "0.7 s recorded."


def test_nothing_is_given_out_before_the_last_piece(speechlike):
    recorded = recorder()
    text = base64.b64encode(wav(speechlike(0.5))).decode()
    recorded._handle_custom_msg({"part": 0, "count": 2, "wav": text[:100]}, [])
    with pytest.raises(AudioError, match="Nothing was recorded yet"):
        _ = recorded.audio


def test_a_second_recording_takes_the_place_of_the_first(speechlike):
    recorded = recorder()
    for seconds in (0.5, 1.0):
        arrive(recorded, wav(speechlike(seconds)), 3)
    assert recorded.audio.duration_s == 1.0


def test_without_a_recording_the_error_says_what_to_do():
    with pytest.raises(AudioError, match=r"press record, speak, press stop.*load_audio"):
        _ = recorder().audio


def test_what_went_wrong_in_the_browser_is_the_error_even_after_a_good_take(speechlike):
    recorded = recorder()
    arrive(recorded, wav(speechlike(0.5)))
    recorded.set_state({"error": "The browser did not allow the microphone."})
    with pytest.raises(AudioError, match="did not allow the microphone"):
        _ = recorded.audio
    arrive(recorded, wav(speechlike(0.5)))
    assert recorded.audio.duration_s == 0.5


def test_a_broken_recording_is_shown_beside_the_button_not_lost():
    recorded = recorder()
    arrive(recorded, b"no sound at all")
    assert recorded.error
    with pytest.raises(AudioError):
        _ = recorded.audio


def test_a_muted_microphone_is_told():
    recorded = recorder()
    arrive(recorded, wav(np.zeros(8_000)))
    assert "silent" in recorded.status and recorded.audio.is_silent


def test_the_notebook_keeps_no_sound(speechlike):
    """Widget state is saved with a notebook: the recording is not a part of it."""
    recorded = recorder()
    before = recorded.get_state()
    arrive(recorded, wav(speechlike(2.0)))
    after = recorded.get_state()
    assert {k for k in after if after[k] != before[k]} == {"status"}


@pytest.mark.parametrize("max_s", [0, -1, 601])
def test_an_absurd_limit_is_refused(max_s):
    with pytest.raises(PtlabError, match="at most 600"):
        recorder(max_s=max_s)


@pytest.mark.parametrize(
    "value",
    [
        {
            "olá.wav": {"metadata": {"size": 2}, "content": b"ab"},
            "b.ogg": {"metadata": {"size": 1}, "content": b"c"},
        },
        (
            {"name": "olá.wav", "type": "", "size": 2, "content": memoryview(b"ab")},
            {"name": "b.ogg", "type": "", "size": 1, "content": memoryview(b"c")},
        ),
    ],
    ids=["ipywidgets 7", "ipywidgets 8"],
)
def test_uploaded_files_of_both_shapes(value):
    files = uploaded_files(value)
    assert files == {"olá.wav": b"ab", "b.ogg": b"c"}
    assert all(type(content) is bytes for content in files.values())


@pytest.mark.parametrize("nothing", [{}, (), []])
def test_no_upload_is_no_files(nothing):
    assert uploaded_files(nothing) == {}


def test_files_of_a_real_upload_widget():
    upload = uploader()
    choose(upload, **{"a.wav": b"123"})
    assert uploaded_files(upload.value) == {"a.wav": b"123"}


def test_every_button_says_what_it_does():
    assert uploader().description == "Upload sound files"
    assert uploader(multiple=False).description == "Upload a sound file"
    assert not uploader(multiple=False).multiple


def test_a_recording_and_an_upload_are_transcribed_below(transcriber, speechlike):
    record, upload, text = transcribe_widget(transcriber).children
    content = wav(speechlike(1.0))
    expected = transcriber.transcribe(content)
    assert expected.text
    arrive(record, content)
    assert text.value == f"<p><b>Recording</b></p>{expected._repr_html_()}"
    choose(upload, **{"minha <voz>.wav": content})
    assert text.value == f"<p><b>minha &lt;voz&gt;.wav</b></p>{expected._repr_html_()}"


def test_of_several_files_the_bad_one_is_told_and_the_others_read(transcriber, speechlike):
    _, upload, text = transcribe_widget(transcriber).children
    content = wav(speechlike(1.0))
    choose(upload, **{"a.wav": b"no sound", "b.wav": content})
    assert "<b>a.wav</b></p><p>⚠" in text.value
    assert text.value.endswith(transcriber.transcribe(content)._repr_html_())


def test_a_model_that_is_missing_is_told_in_the_widget(monkeypatch, speechlike):
    monkeypatch.setenv("PTLAB_MODEL", "no-such-model")
    record, _, text = transcribe_widget().children
    arrive(record, wav(speechlike(0.5)))
    assert "No model &#x27;no-such-model&#x27;" in text.value


@pytest.mark.skipif(not shutil.which("node"), reason="needs node: install Node.js to run it")
def test_the_browser_writes_a_wav_file_that_soundfile_reads():
    samples = [0, 0.5, -0.5, 1, -1, 2, -2, 0.25]
    script = f"""{RECORDER}
const bytes = await encodeWav(Float32Array.from({samples})).arrayBuffer();
process.stdout.write(Buffer.from(bytes));
"""
    command = ["node", "--input-type=module", "-e", script]
    written = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout
    info = soundfile.info(io.BytesIO(written))
    assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 1, "PCM_16")
    read, _ = soundfile.read(io.BytesIO(written))
    assert read == pytest.approx(np.clip(samples, -1, 1), abs=2 / 32768)


@pytest.mark.skipif(not shutil.which("node"), reason="needs node: install Node.js to run it")
def test_the_browser_cuts_a_recording_into_pieces_that_python_puts_together(speechlike):
    """60 s at 16 kHz in base64: each message stays far below what notebook servers take."""
    script = """
const text = "abcdefghij".repeat(256000), sent = [];
send({ send: (message) => sent.push(message) }, text);
console.log(JSON.stringify([
  sent.map((m) => m.wav).join("") === text,
  sent.every((m, i) => m.part === i && m.count === sent.length),
  Math.max(...sent.map((m) => m.wav.length)),
]));
"""
    command = ["node", "--input-type=module", "-e", RECORDER + script]
    out = subprocess.run(command, capture_output=True, timeout=60, check=True, text=True).stdout
    whole, numbered, longest = json.loads(out)
    assert whole and numbered and longest <= 1_000_000
