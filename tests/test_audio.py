"""Sound of any kind in, mono float32 at 16 kHz out: against formulas, twins and refusals."""

import io
import logging
import os
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from ptlab.audio import SAMPLE_RATE, Audio, load_audio, normalize, resample
from ptlab.errors import AudioError

RATE = 16_000


def sine(rate=RATE, seconds=1.0, frequency=440.0, amplitude=0.5, phase=0.0):
    time = np.arange(round(seconds * rate)) / rate
    return amplitude * np.sin(2 * np.pi * frequency * time + phase)


def encoded(samples, rate=RATE, container="WAV", subtype=None):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype)
    return buffer.getvalue()


def tone_of(waveform, rate=RATE):
    """Frequency (Hz) and amplitude of the strongest tone, away from the edges."""
    middle = waveform[len(waveform) // 4 : 3 * len(waveform) // 4]
    window = np.hanning(len(middle))
    spectrum = np.abs(np.fft.rfft(middle * window, 16 * len(middle)))
    peak = int(spectrum.argmax())
    return peak * rate / (16 * len(middle)), 2 * spectrum[peak] / window.sum()


# --- files ---------------------------------------------------------------------------------------

# Half a step of the quantiser; float formats are exact.
STEP = {"PCM_U8": 2**-7, "PCM_16": 2**-15, "PCM_24": 2**-23, "PCM_32": 2**-24, "FLOAT": 0}


@pytest.mark.parametrize("subtype", [*STEP, "DOUBLE"])
def test_wav_of_every_width(subtype):
    signal = sine().astype(np.float32)
    audio = load_audio(encoded(signal, subtype=subtype))
    assert audio.waveform.dtype == np.float32
    assert np.abs(audio.waveform - signal).max() <= STEP.get(subtype, 0) + 1e-7


@pytest.mark.parametrize(
    ("container", "subtype", "tolerance"),
    [
        ("FLAC", "PCM_16", 2**-15),
        ("AIFF", "PCM_16", 2**-15),
        ("OGG", "VORBIS", 0.02),
        ("OGG", "OPUS", 0.02),
        ("MP3", "MPEG_LAYER_III", 0.02),
    ],
)
def test_other_containers(container, subtype, tolerance):
    audio = load_audio(encoded(sine(), container=container, subtype=subtype))
    assert (audio.original_sampling_rate, audio.original_channels) == (RATE, 1)
    assert audio.duration_s == pytest.approx(1, abs=0.002)
    frequency, amplitude = tone_of(audio.waveform)
    assert frequency == pytest.approx(440, abs=1)
    assert amplitude == pytest.approx(0.5, abs=tolerance)


@pytest.mark.parametrize("rate", [8_000, 11_025, 12_000, 22_050, 24_000, 44_100, 48_000, 192_000])
def test_resampling_keeps_length_frequency_amplitude_and_phase(rate):
    audio = load_audio(encoded(sine(rate), rate, subtype="FLOAT"))
    assert (len(audio), audio.was_resampled) == (RATE, True)
    middle = slice(1_000, -1_000)  # the filter has no past at the edges
    assert audio.waveform[middle] == pytest.approx(sine()[middle], abs=1e-4)


def test_what_16_khz_cannot_hold_is_filtered_and_not_folded_back():
    high = sine(48_000, frequency=10_000)  # taking every third sample would make it 6 kHz
    assert np.abs(load_audio(encoded(high, 48_000)).waveform[1_000:-1_000]).max() < 1e-3


def test_path_bytes_file_and_data_set_rows_give_the_same(tmp_path):
    content = encoded(sine())
    path = tmp_path / "olá mundo.wav"
    path.write_bytes(content)
    expected = load_audio(path)
    assert (expected.source, expected.sampling_rate) == (str(path), SAMPLE_RATE)
    with path.open("rb") as file:
        sources = [str(path), os.fsencode(path).decode(), content, bytearray(content), file]
        sources += [memoryview(content), io.BytesIO(content), {"path": str(path)}]
        sources += [{"bytes": content, "path": "x"}, {"bytes": None, "path": str(path)}]
        for source in [*sources, {"audio": {"bytes": content}, "text": "olá"}, expected]:
            assert np.array_equal(load_audio(source).waveform, expected.waveform)


def test_an_open_file_is_left_where_it_stood():
    file = io.BytesIO(b"head" + encoded(sine()))
    file.seek(4)
    assert len(load_audio(file)) == RATE
    assert file.tell() == 4
    file.seek(0, io.SEEK_END)
    with pytest.raises(AudioError, match=r"at its end; call \.seek\(0\)"):
        load_audio(file)


def test_a_data_set_row_is_not_emptied():  # the Hugging Face pipeline pops its keys
    row = {"array": sine(24_000), "sampling_rate": 24_000, "path": "a.wav"}
    assert len(load_audio(row)) == RATE
    assert sorted(row) == ["array", "path", "sampling_rate"]


def test_a_torchcodec_decoder_is_read():
    class Samples:
        data, sample_rate = np.stack([sine(24_000)] * 2), 24_000

    class Decoder:
        def get_all_samples(self):
            return Samples()

    audio = load_audio(Decoder())
    assert (len(audio), audio.original_channels) == (RATE, 2)


# --- arrays --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "longdouble"])
def test_floats_are_taken_as_they_are(dtype):
    tolerance = 2**-12 if dtype == "float16" else 1e-7
    assert load_audio(sine().astype(dtype), RATE).waveform == pytest.approx(sine(), abs=tolerance)


@pytest.mark.parametrize(
    ("dtype", "bits"), [("int8", 7), ("int16", 15), (">i2", 15), ("int32", 31)]
)
def test_integers_are_divided_by_full_scale(dtype, bits):
    counts = np.array([-(2**bits), 0, 2 ** (bits - 1)] * 100).astype(dtype)
    assert load_audio(counts, RATE).waveform[:3].tolist() == [-1, 0, 0.5]


def test_a_list_and_a_tensor_are_arrays_too():
    torch = pytest.importorskip("torch")
    values = sine(seconds=0.1)
    expected = load_audio(values, RATE).waveform
    assert np.array_equal(load_audio(values.tolist(), RATE).waveform, expected)
    tensor = torch.tensor(values, requires_grad=True)
    assert np.array_equal(load_audio(tensor, RATE).waveform, expected)
    coarse = load_audio(tensor.to(torch.bfloat16), RATE).waveform
    assert coarse == pytest.approx(expected, abs=2**-9)


def test_an_array_that_was_given_is_never_changed_and_never_shared():
    values = sine().astype(np.float32)
    audio = load_audio(values, RATE)
    audio.waveform[:] = 0
    assert np.array_equal(values, sine().astype(np.float32))


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("layout", ["rows", "columns", "file"])
def test_channels_are_averaged_in_any_layout(channels, layout):
    parts = np.stack([sine(phase=k, amplitude=0.1 * (k + 1)) for k in range(channels)])
    if layout == "file":
        audio = load_audio(encoded(parts.T, subtype="FLOAT"))
    else:
        audio = load_audio(parts if layout == "rows" else parts.T, RATE)
    assert audio.original_channels == channels
    assert audio.waveform == pytest.approx(parts.mean(axis=0), abs=1e-6)


def test_one_channel_can_be_chosen():
    pair = np.stack([sine(), np.zeros(RATE)])
    assert load_audio(pair, RATE, channel=1).is_silent
    assert not load_audio(pair, RATE, channel=0).is_silent
    with pytest.raises(AudioError, match="channel=2, but there are 2"):
        load_audio(pair, RATE, channel=2)
    with pytest.raises(AudioError, match="an Audio is mono"):
        load_audio(load_audio(pair, RATE), channel=1)


@settings(max_examples=40)
@given(st.integers(3, 3_000), st.sampled_from([8_000, 16_000, 22_050, 48_000]), st.integers(0, 99))
def test_twins_agree(samples, rate, seed):
    counts = np.random.default_rng(seed).integers(-(2**15), 2**15, samples).astype(np.int16)
    from_counts = load_audio(counts, rate).waveform
    from_floats = load_audio(counts / 2**15, rate).waveform
    from_stereo = load_audio(np.stack([counts, counts]), rate).waveform
    from_file = load_audio(encoded(counts, rate)).waveform
    assert from_counts == pytest.approx(from_floats, abs=1e-6)
    assert np.array_equal(from_counts, from_file)
    assert from_counts == pytest.approx(from_stereo, abs=1e-6)
    assert len(from_counts) == pytest.approx(samples * RATE / rate, abs=1)


def test_resampled_twins_agree():
    direct = load_audio(sine(48_000), 48_000).waveform
    twice = load_audio(load_audio(sine(48_000), 48_000, target_rate=24_000)).waveform
    assert twice[500:-500] == pytest.approx(direct[500:-500], abs=1e-3)


@settings(max_examples=60)
@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda b: encoded(sine())[:44] + b))
def test_any_bytes_give_audio_or_an_audio_error(content):
    try:
        audio = load_audio(content)
    except AudioError:
        return
    assert audio.waveform.ndim == 1
    assert len(audio)


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "rate", "message"),
    [
        (b"", None, "is empty; was it saved"),
        (encoded(np.zeros(0)), None, "empty: it has no samples"),
        (np.zeros(0), RATE, "empty: it has no samples"),
        ([], RATE, "empty: it has no samples"),
        ([0.1, float("nan")], RATE, "1 of 2 samples are NaN or infinite"),
        (np.array([0.1, np.inf, -np.inf]), RATE, "2 of 3 samples are NaN or infinite"),
        (encoded(np.array([0.1, np.nan]), subtype="FLOAT"), None, "NaN or infinite"),
        (np.full(10, 1e300), RATE, "NaN or infinite"),
        (np.zeros((2, 2, 100)), RATE, r"\(2, 2, 100\); accepted are"),
        (np.float32(0.5), RATE, r"shape \(\); accepted are"),
        (np.zeros((100, 100)), RATE, "which axis is the channels"),
        (np.zeros((64, 1_000)), RATE, "up to 32"),
        ([[0.1, 0.2], [0.3]], RATE, "lists of different lengths"),
        (np.zeros(100), None, "without its sampling rate"),
        ({"array": np.zeros(100)}, None, "without its sampling rate"),
        (np.zeros(100), 0, r"sampling_rate=0; expected a whole number"),
        (np.zeros(100), -16_000, "expected a whole number"),
        (np.zeros(100), 16, "from 1000 to 768000"),
        (np.zeros(100), 1e9, "expected a whole number"),
        (np.zeros(100), float("nan"), "expected a whole number"),
        (np.zeros(100), 16_000.5, "expected a whole number"),
        (np.zeros(100), True, "expected a whole number"),
        (np.zeros(100), "16000", "expected a whole number"),
        (np.array([0, 16_384]), RATE, r"type int64.*astype\('int16'\)"),
        (np.zeros(100, complex), RATE, "type complex128"),
        (np.array([True, False]), RATE, "type bool"),
        (["a", "b"], RATE, "Samples of type"),
        (sine() * 2**15, RATE, "up to 163.*full scale is 1"),
        (np.stack([sine(), -sine()]), RATE, "cancel each other"),
        (encoded(sine()), 8_000, "sampling_rate=8000, but the file says 16000"),
        ({"array": sine(), "sampling_rate": RATE}, 8_000, "the dict says 16000"),
        (sine(), "mini", "sampling_rate='mini'; expected.* go by name, as in model='mini'"),
        (load_audio(sine(), RATE), "mini", "go by name"),
        (None, None, "from NoneType; accepted are a path"),
        (42, RATE, "from int; accepted are a path"),
        ({"text": "olá"}, None, r"keys \['text'\]; accepted are 'array'"),
        ("https://example.org/a.wav", None, "an address, not a file"),
        (io.StringIO("RIFF"), None, "opened as text"),
    ],
)
def test_what_is_not_sound_is_refused_with_advice(source, rate, message):
    with pytest.raises(AudioError, match=message):
        load_audio(source, rate)


def test_target_rate_is_checked_and_one_sample_is_too_short_to_resample():
    with pytest.raises(AudioError, match="target_rate=1"):
        load_audio(sine(), RATE, target_rate=1)
    with pytest.raises(AudioError, match="too short to make one sample"):
        load_audio(np.zeros(1), 192_000)


NO_AUDIO = [
    (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    (b"<!DOCTYPE html>", "web page"),
    (b'{"error": 404}', "JSON text"),
    (b"PK\x03\x04abc", "ZIP"),
    (b"%PDF-1.7", "PDF"),
    ("Olá, isto é um texto e não som.".encode(), "is not audio that libsndfile can read"),
    (b"\0\0\0\x20ftypM4A ", "M4A or MP4, which needs ffmpeg.*apt install ffmpeg"),
    (b"\x1aE\xdf\xa3webm", "WebM or MKV, which needs ffmpeg.*conda install ffmpeg"),
]


@pytest.mark.parametrize(("content", "message"), NO_AUDIO)
def test_other_files_called_wav_are_named_for_what_they_are(
    tmp_path, monkeypatch, content, message
):
    monkeypatch.setenv("PATH", "")
    path = tmp_path / "gravação.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=message):
        load_audio(path)
    with pytest.raises(AudioError, match=message):
        load_audio(content)


def test_folders_and_missing_files_are_refused(tmp_path):
    with pytest.raises(AudioError, match="is a folder"):
        load_audio(tmp_path)
    with pytest.raises(AudioError, match=r"No file '.*nada\.wav'"):
        load_audio(tmp_path / "nada.wav")
    (tmp_path / "vazio.wav").touch()
    with pytest.raises(AudioError, match="is empty"):
        load_audio(tmp_path / "vazio.wav")


@pytest.mark.parametrize("container", ["WAV", "AIFF", "FLAC"])
@pytest.mark.parametrize("kept", [0.3, 0.75, 0.99])
def test_a_file_cut_short_is_refused(container, kept):
    content = encoded(sine(), container=container)
    with pytest.raises(AudioError, match="cut short"):
        load_audio(content[: int(kept * len(content))])


def test_an_mp3_cut_short_is_read_and_said(caplog):
    content = encoded(sine(seconds=4), container="MP3", subtype="MPEG_LAYER_III")
    with caplog.at_level(logging.WARNING, "ptlab"):
        audio = load_audio(content[: len(content) // 2])
    assert 1 < audio.duration_s < 3
    assert "cut short" in caplog.text
    caplog.clear()
    load_audio(content)
    assert not caplog.text


def test_a_wav_from_a_pipe_has_no_size_and_is_read():
    content = bytearray(encoded(sine(seconds=0.5)))
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"  # as ffmpeg writes to a pipe
    assert len(load_audio(bytes(content))) == RATE // 2


# --- ffmpeg --------------------------------------------------------------------------------------


def fake_ffmpeg(folder, monkeypatch, body):
    """A program called ffmpeg that runs ``body`` with ``source`` bound to its input."""
    program = folder / "ffmpeg"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\n"
        "source = Path(sys.argv[sys.argv.index('-i') + 1].removeprefix('file:'))\n" + body
    )
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(folder))


M4A = b"\0\0\0\x20ftypM4A "


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for ffmpeg is a script with a shebang")
def test_m4a_goes_through_ffmpeg(tmp_path, monkeypatch):
    answer = tmp_path / "answer.wav"
    answer.write_bytes(encoded(sine(44_100), 44_100, subtype="FLOAT"))
    fake_ffmpeg(
        tmp_path,
        monkeypatch,
        f"assert source.read_bytes() == {M4A!r}\n"
        f"sys.stdout.buffer.write(Path({str(answer)!r}).read_bytes())\n",
    )
    path = tmp_path / "voz.m4a"
    path.write_bytes(M4A)
    for source in (path, M4A):
        audio = load_audio(source)
        assert audio.original_sampling_rate == 44_100
        assert audio.waveform[1_000:-1_000] == pytest.approx(sine()[1_000:-1_000], abs=1e-4)


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for ffmpeg is a script with a shebang")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit('moov atom not found')", "ffmpeg: moov atom not found"),
        ("pass", "ffmpeg: no sound found"),
        ("print('oops')", "ffmpeg: its output is not sound"),
    ],
)
def test_what_ffmpeg_refuses_is_refused_with_its_words(tmp_path, monkeypatch, body, message):
    fake_ffmpeg(tmp_path, monkeypatch, body)
    with pytest.raises(AudioError, match=message):
        load_audio(M4A)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs the program ffmpeg: install it")
@pytest.mark.parametrize("suffix", ["m4a", "webm"])
def test_real_ffmpeg_reads_its_own_files(tmp_path, suffix):
    import subprocess

    soundfile.write(tmp_path / "a.wav", sine(48_000), 48_000)
    path: Path = tmp_path / f"a.{suffix}"
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", path], check=True)
    frequency, amplitude = tone_of(load_audio(path).waveform)
    assert frequency == pytest.approx(440, abs=1)
    assert amplitude == pytest.approx(0.5, abs=0.03)


# --- Audio and normalisation ---------------------------------------------------------------------


def test_silence_is_flagged_and_not_refused():
    assert load_audio(np.zeros(RATE), RATE).is_silent
    assert load_audio(np.full(RATE, 0.5), RATE).is_silent  # an offset is no sound
    assert load_audio(np.full(RATE, 128, np.uint8), RATE).is_silent
    assert not load_audio(sine(amplitude=0.002), RATE).is_silent


def test_audio_prints_what_was_done_and_is_an_array():
    audio = load_audio(np.stack([sine(8_000)] * 2), 8_000)
    assert repr(audio) == "Audio(1.00 s, 16000 Hz, from 8000 Hz, from 2 channels)"
    assert np.asarray(audio).shape == (RATE,)
    again = load_audio(audio, target_rate=8_000)
    assert isinstance(again, Audio)
    assert (again.duration_s, again.sampling_rate, again.original_channels) == (1.0, 8_000, 2)


@given(st.integers(1, 2_000), st.floats(-1, 1), st.floats(0.01, 1))
@settings(max_examples=30)
def test_normalize_is_the_feature_extractor_of_transformers(samples, offset, scale):
    from transformers import Wav2Vec2FeatureExtractor

    noise = np.random.default_rng(samples).standard_normal(samples)
    waveform = (offset + scale * noise).astype(np.float32)
    theirs = Wav2Vec2FeatureExtractor()(waveform, sampling_rate=RATE)["input_values"][0]
    assert normalize(waveform) == pytest.approx(theirs, abs=1e-5)


def test_normalize_and_resample_refuse_what_is_not_one_channel():
    for wrong in (np.zeros((2, 100)), np.zeros(0)):
        with pytest.raises(AudioError, match="normalize takes"):
            normalize(wrong)
    with pytest.raises(AudioError, match="resample takes"):
        resample(np.zeros((2, 100)), 8_000, RATE)
