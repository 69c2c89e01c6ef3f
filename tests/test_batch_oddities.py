"""Strange sound files that others collected, and things in a folder that are no files at all.

SciPy installs the WAVs of its own tests. CPython's are in the folder ``test/audiodata`` of many
Pythons; Debian has them in the package libpython3.*-testsuite, conda and others leave them out.
"""

import os
import struct
import sysconfig
import warnings
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from batch_process import CAN_FORK, NO_FORK, Runs

import ptlab
from ptlab.data import load_corpus

SCIPY = "SciPy without the data of its tests; get them: pip install --force-reinstall scipy"
CPYTHON = (
    "no test/audiodata in this Python's library; get it: apt-get download "
    "libpython3.11-testsuite, dpkg-deb -x libpython3.11-testsuite_*.deb FOLDER, and run with "
    "PTLAB_AUDIODATA=FOLDER/usr/lib/python3.11/test/audiodata"
)


def scipy_folder():
    import scipy.io

    return Path(scipy.io.__file__).parent / "tests" / "data"


def cpython_folder():
    given = os.environ.get("PTLAB_AUDIODATA")
    return Path(given or Path(sysconfig.get_path("stdlib")) / "test" / "audiodata")


def transcribed(paths, tiny_model):
    """A result for each file, in order."""
    report = ptlab.transcribe_files(paths, tiny_model, progress=False)
    assert [r.path for r in report] == [str(p) for p in paths]
    return list(report)


# --- SciPy ---------------------------------------------------------------------------------------

# What SciPy reads but we must not: samples of more than 32 bits, which libsndfile has not. Newer
# ffmpegs read 64 bits and some odd widths, and then such a file is as short as it is.
WIDE = {"36bit", "45bit", "53bit", "64bit"}
# Files whose end is missing: SciPy reads the head of one with a warning, refuses the others.
CUT = {"early-eof", "early-eof-no-data", "incomplete-chunk"}
# What SciPy refuses but libsndfile reads: mu-law, and a header that contradicts itself about the
# bytes a frame and a second only.
OTHERS = {"ulaw", "inconsistent"}


@dataclass(frozen=True)
class Facts:
    """What another reader says of a file."""

    rate: int
    samples: int
    channels: int


def by_scipy(path):
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Chunk .non-data. not understood")
        rate, samples = wavfile.read(path)
    return Facts(rate, len(samples), 1 if samples.ndim == 1 else samples.shape[1])


def by_wave(path):
    with wave.open(str(path)) as file:
        return Facts(file.getframerate(), file.getnframes(), file.getnchannels())


def by_header(path):
    """Facts of a RIFF WAV by its chunks (IBM and Microsoft, Multimedia Programming Interface)."""
    content, at, found = path.read_bytes(), 12, {}
    while at + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        found[name] = content[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    _, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", found[b"fmt "])
    return Facts(rate, len(found[b"data"]) // (channels * -(-bits // 8)), channels)


def check_facts(result, facts):
    """Duration and rate are the file's, and the status follows from the samples at 16 kHz."""
    assert (result.original_sampling_rate, result.original_channels) == (facts.rate, facts.channels)
    assert result.duration_s == pytest.approx(facts.samples / facts.rate, abs=1 / 16_000)
    assert result.was_resampled == (facts.rate != 16_000)
    first_frame = 400 / 16_000  # the receptive field of wav2vec2
    short = result.duration_s < first_frame
    assert (result.status == "too_short") == short
    assert short or result.status in ("ok", "empty", "silent")


@pytest.fixture(scope="module")
def scipy_results(tiny_model):
    paths = sorted(scipy_folder().glob("*.wav"))
    if len(paths) < 20:
        pytest.skip(SCIPY)
    return dict(zip(paths, transcribed(paths, tiny_model), strict=True))


def ends(path, names):
    return any(path.stem.endswith(name) for name in names)


def test_wavs_of_scipy_have_the_facts_that_scipy_reads(scipy_results):
    told = 0
    for path, result in scipy_results.items():
        if ends(path, WIDE | CUT | OTHERS):
            continue
        check_facts(result, by_scipy(path))
        told += 1
    assert told >= 13


def test_wavs_that_scipy_cannot_read_have_the_facts_of_their_headers(scipy_results):
    others = {p: r for p, r in scipy_results.items() if ends(p, OTHERS)}
    assert len(others) == len(OTHERS)
    for path, result in others.items():
        check_facts(result, by_header(path))


def test_the_reader_of_headers_agrees_with_scipy():
    path = scipy_folder() / "test-8000Hz-le-2ch-1byteu.wav"
    if not path.exists():
        pytest.skip(SCIPY)
    assert by_header(path) == by_scipy(path)


def test_wavs_that_end_early_are_unreadable_and_say_so(scipy_results):
    cut = [r for p, r in scipy_results.items() if ends(p, CUT)]
    assert len(cut) == len(CUT)
    for result in cut:
        assert result.status == "unreadable"
        assert "cut short" in result.message
        assert result.text == ""


def test_wavs_of_more_than_32_bits_are_unsupported_or_right(scipy_results):
    wide = {p: r for p, r in scipy_results.items() if ends(p, WIDE)}
    assert len(wide) == len(WIDE)
    for path, result in wide.items():
        if result.status != "unsupported":
            check_facts(result, by_scipy(path))
        else:
            assert "libsndfile" in result.message


def test_every_wav_of_scipy_has_a_known_status_and_a_message_if_it_is_not_ok(scipy_results):
    known = {"ok", "empty", "silent", "too_short", "unreadable", "unsupported"}
    assert {r.status for r in scipy_results.values()} <= known
    for result in scipy_results.values():
        assert result.status == "ok" or result.message, result


# --- CPython -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cpython_results(tiny_model):
    paths = sorted(p for p in cpython_folder().glob("pluck-*") if p.is_file())
    if not paths:
        pytest.skip(CPYTHON)
    return dict(zip(paths, transcribed(paths, tiny_model), strict=True))


def test_every_sound_of_cpython_is_heard_with_its_duration_and_rate(cpython_results):
    """One pluck of a string in WAV, AIFF, AIFC and AU, 8 to 32 bits, A-law and mu-law."""
    wavs = [p for p in cpython_results if p.suffix == ".wav"]
    assert len(wavs) >= 4
    facts = {by_wave(p) for p in wavs if _is_plain(p)}
    assert len(facts) == 1  # so that the other formats can be held to it
    for result in cpython_results.values():
        check_facts(result, *facts)
        assert result.status in ("ok", "empty")


def test_one_sound_in_many_dresses_gives_one_text(cpython_results):
    texts = {r.text for p, r in cpython_results.items() if "16" in p.stem or "32" in p.stem}
    assert len(texts) == 1


def _is_plain(path):
    try:
        by_wave(path)
    except wave.Error:  # an extensible header, before Python 3.12
        return False
    return True


# --- what a folder may hold besides --------------------------------------------------------------


def test_made_by_hand(tiny_model, tmp_path, speechlike):
    """Files that programs and people do write, with the status that each must get."""
    speech = speechlike(1.0)

    def wav(name, samples, rate=16_000, **options):
        soundfile.write(tmp_path / name, samples, rate, **options)

    wav("ok 8 bits.wav", speech, subtype="PCM_U8")
    wav("ok 96 kHz.wav", np.repeat(speech, 6), 96_000)
    wav("ok 5 channels.wav", np.stack([speech] * 5, axis=1))
    wav("ok açaí ☂.flac", speech)
    wav("silent.wav", np.zeros(16_000))
    wav("silent dc.wav", np.full(16_000, 0.25))
    wav("too_short 20 ms.wav", speech[:320])
    wav("empty no samples.wav", np.zeros(0))
    wav("unreadable nan.wav", np.where(np.arange(16_000) == 9, np.nan, speech), subtype="FLOAT")
    wav("unsupported counts.wav", speech * 32_768, subtype="FLOAT")
    wav("unsupported cancelled.wav", np.stack([speech, -speech], axis=1))
    content = (tmp_path / "ok 8 bits.wav").read_bytes()
    (tmp_path / "unreadable cut.wav").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.mp3").write_bytes(b"")
    (tmp_path / "unsupported text.wav").write_text("Olá, mundo.")
    (tmp_path / "unsupported page.mp3").write_text("<!doctype html><title>404</title>")
    paths = sorted(tmp_path.iterdir())
    listed = transcribed([*paths, tmp_path / "unreadable gone.wav"], tiny_model)
    results = {Path(r.path).name: r for r in listed}
    for name, result in results.items():
        wanted = name.partition(".")[0].split()[0]
        assert result.status == wanted, (name, result)
        assert wanted == "ok" or result.message, name
    for name in ("ok 8 bits.wav", "ok 96 kHz.wav", "ok 5 channels.wav", "ok açaí ☂.flac"):
        assert results[name].duration_s == pytest.approx(1.0), name


@pytest.mark.skipif(not CAN_FORK, reason=NO_FORK)
def test_what_is_no_file_blocks_nothing(tmp_path):
    """A pipe and a device never end; links lead nowhere or in a circle; a folder is named .wav."""
    clip = load_corpus("test").frame.sort_values("duration_s").file.iloc[0]
    names = ["pipe", "endless", "nowhere", "circle", "folder", "forbidden"]
    paths = {name: tmp_path / f"{name}.wav" for name in names}
    os.mkfifo(paths["pipe"])
    paths["endless"].symlink_to("/dev/zero")
    paths["nowhere"].symlink_to(tmp_path / "gone.wav")
    paths["circle"].symlink_to(paths["circle"])
    paths["folder"].mkdir()
    paths["forbidden"].write_bytes(Path(clip).read_bytes())
    paths["forbidden"].chmod(0)
    (tmp_path / "good.ogg").write_bytes(Path(clip).read_bytes())
    readable = os.access(paths["forbidden"], os.R_OK)  # the administrator may
    with Runs() as runs:
        results = runs.run([str(tmp_path)], timeout_s=120)["results"]
    statuses = {Path(r["path"]).stem: r["status"] for r in results}
    assert statuses.pop("good") == "ok"
    assert statuses.pop("forbidden") == ("ok" if readable else "unreadable")
    assert statuses.pop("folder", None) is None  # its files would be in the batch, if it had any
    assert set(statuses) == {"pipe", "endless", "nowhere", "circle"}
    assert set(statuses.values()) <= {"unreadable", "unsupported"}
