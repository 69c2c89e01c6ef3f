"""Damaged files of nine formats in one batch: one result each, no crash, no hang, and the intact
files in between have exactly the text that they have without them."""

import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from batch_process import CAN_FORK, NO_FORK, Runs

from ptlab.audio import load_audio, resample
from ptlab.data import load_corpus
from ptlab.errors import AudioError

pytestmark = pytest.mark.skipif(not CAN_FORK, reason=NO_FORK)

STALL_S = 300.0  # without a finished file: a hang, even where the machine is busy
LOAD_S = 60.0  # to read one damaged file of a second or two
BATCH_S = 20.0  # small, so that files get done all the time
HEARD = {"ok", "empty", "too_short", "silent"}  # what a file that can be read may become


@dataclass(frozen=True)
class Encoding:
    """A way to write a sound."""

    container: str
    subtype: str
    extension: str
    rate: int
    channels: int = 1


ENCODINGS = (
    Encoding("WAV", "PCM_U8", "wav", 8_000),
    Encoding("WAV", "PCM_16", "wav", 16_000),
    Encoding("WAV", "PCM_24", "wav", 44_100, 2),
    Encoding("WAV", "PCM_32", "wav", 48_000),
    Encoding("WAV", "FLOAT", "wav", 22_050, 6),
    Encoding("FLAC", "PCM_16", "flac", 44_100, 2),
    Encoding("OGG", "VORBIS", "ogg", 16_000),
    Encoding("OGG", "OPUS", "opus", 48_000),
    Encoding("MP3", "MPEG_LAYER_III", "mp3", 24_000),
    Encoding("AIFF", "PCM_16", "aiff", 32_000),
    Encoding("AU", "PCM_16", "au", 11_025),
    Encoding("CAF", "ALAC_16", "caf", 16_000),
    Encoding("W64", "PCM_16", "w64", 96_000),
)


def encoded(waveform, encoding):
    """The bytes of a 16 kHz sound in another dress."""
    samples = resample(waveform, 16_000, encoding.rate)
    columns = np.repeat(np.clip(samples, -1, 1)[:, None], encoding.channels, axis=1)
    content = io.BytesIO()
    how = {"format": encoding.container, "subtype": encoding.subtype}
    soundfile.write(content, columns, encoding.rate, **how)
    return content.getvalue()


# --- what is done to a file: (content, rng, another file's content) -> content -------------------


def somewhere(content, rng, head=None):
    return int(rng.integers(max(1, min(len(content), head or len(content)))))


def truncated(content, rng, other):
    return content[: somewhere(content, rng)]


def beheaded(content, rng, other):
    return content[somewhere(content, rng, 200) :]


def header_only(content, rng, other):
    return content[: int(rng.integers(4, 60))]


def flipped(content, rng, other, head=None):
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 20))):
        changed[somewhere(content, rng, head)] ^= int(rng.integers(1, 256))
    return bytes(changed)


def header_flipped(content, rng, other):
    return flipped(content, rng, other, head=64)


def numbers_changed(content, rng, other):
    """Sizes, rates and counts become the numbers that break programs."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        number = [0, 1, 0xFF, 0x7FFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF][rng.integers(7)]
        at = somewhere(content, rng, 80) & ~1
        order = "little" if rng.integers(2) else "big"
        changed[at : at + 4] = number.to_bytes(4, order)[: max(0, len(changed) - at)]
    return bytes(changed)


def zeroed(content, rng, other):
    start = somewhere(content, rng)
    length = min(int(rng.integers(1, 4_000)), len(content) - start)
    return content[:start] + bytes(length) + content[start + length :]


def cut_out(content, rng, other):
    start = somewhere(content, rng)
    return content[:start] + content[start + int(rng.integers(1, 2_000)) :]


def put_in(content, rng, other):
    start = somewhere(content, rng)
    return content[:start] + rng.bytes(int(rng.integers(1, 2_000))) + content[start:]


def repeated(content, rng, other):
    start = somewhere(content, rng)
    return content[:start] + content[start // 2 :]


def spliced_header(content, rng, other):
    size = int(rng.integers(4, 128))
    return other[:size] + content[size:]


def spliced(content, rng, other):
    return content[: somewhere(content, rng)] + other[somewhere(other, rng) :]


def junk_before(content, rng, other):
    return rng.bytes(int(rng.integers(1, 500))) + content


def junk_after(content, rng, other):
    return content + rng.bytes(int(rng.integers(1, 5_000)))


def only_noise(content, rng, other):
    return content[:4] + rng.bytes(len(content) // 4)


def no_bytes(content, rng, other):
    return b""


def misnamed(content, rng, other):
    return content


MUTATIONS = (
    truncated, beheaded, header_only, flipped, header_flipped, numbers_changed, zeroed, cut_out,
    put_in, repeated, spliced_header, spliced, junk_before, junk_after, only_noise, no_bytes,
    misnamed,
)  # fmt: skip
WRONG_EXTENSIONS = ("wav", "mp3", "flac", "ogg", "opus", "aiff", "raw", "m4a", "txt", "")


def make_damaged(folder, count, seed):
    """``count`` files: every mutation of every encoding in turn, at random places."""
    rng = np.random.default_rng(seed)
    clips = short_clips("train", 4)
    whole = [[encoded(load_audio(clip).waveform, e) for e in ENCODINGS] for clip in clips]
    paths = []
    for n in range(count):
        # 17 mutations and 13 encodings have no common factor: all pairs come up
        mutate, kind = MUTATIONS[n % len(MUTATIONS)], n % len(ENCODINGS)
        mine, other = (whole[rng.integers(len(clips))] for _ in range(2))
        content = mutate(mine[kind], rng, other[rng.integers(len(ENCODINGS))])
        extension = ENCODINGS[kind].extension
        if mutate is misnamed or rng.random() < 0.1:
            extension = WRONG_EXTENSIONS[rng.integers(len(WRONG_EXTENSIONS))]
        name = f"{n:05d} {mutate.__name__} {ENCODINGS[kind].subtype}"
        paths.append(folder / (f"{name}.{extension}" if extension else name))
        paths[-1].write_bytes(content)
    return paths


def make_intact(folder, count):
    """``count`` different clips, in all encodings in turn."""
    paths = []
    for n, clip in enumerate(short_clips("test", count)):
        encoding = ENCODINGS[n % len(ENCODINGS)]
        paths.append(folder / f"intact {n:04d} {encoding.subtype}.{encoding.extension}")
        paths[-1].write_bytes(encoded(load_audio(clip).waveform, encoding))
    return paths


def short_clips(split, count):
    frame = load_corpus(split).frame.sort_values("duration_s")
    assert len(frame) >= count
    return frame.file[:count].tolist()


def in_between(many, few):
    """Both lists as one, the few spread evenly."""
    step = len(many) / len(few)
    ends = [round(step * (k + 1)) for k in range(len(few))]
    starts = [0, *ends[:-1]]
    parts = zip(starts, ends, few, strict=True)
    return [path for start, end, one in parts for path in (*many[start:end], one)]


def watched(runs, paths, journal):
    """A whole run's results; fails if no file gets done for a while."""
    runs.start([str(p) for p in paths], journal=str(journal), batch_s=BATCH_S)
    size, since = -1, time.monotonic()
    while (code := runs.wait(1)) is None:
        now = journal.stat().st_size if journal.exists() else 0
        if now != size:
            size, since = now, time.monotonic()
        if time.monotonic() - since > STALL_S:
            runs.kill()
            pytest.fail(f"no file done in {STALL_S:.0f} s after {_last(journal)}; {runs.log}")
    assert code == 0, f"exit code {code} after {_last(journal)}; {runs.log}"
    return runs.report()["results"]


def _last(journal):
    return journal.read_text("utf-8", "replace").splitlines()[-1][:200] if journal.exists() else "0"


@pytest.fixture(scope="module")
def runs():
    with Runs() as started:
        yield started


def check_batch(runs, folder, damaged_count, intact_count, seed):
    damaged, intact = (folder / name for name in ("damaged", "intact"))
    damaged.mkdir()
    intact.mkdir()
    bad, good = make_damaged(damaged, damaged_count, seed), make_intact(intact, intact_count)
    clean = runs.run([str(p) for p in good])["results"]
    paths = in_between(bad, good)
    results = watched(runs, paths, folder / "journal.jsonl")
    assert [r["path"] for r in results] == [str(p) for p in paths]
    by_path = {r["path"]: r for r in results}
    check_intact(clean, [by_path[str(p)] for p in good])
    for path in bad:
        check_damaged(path, by_path[str(path)])
    statuses = {by_path[str(p)]["status"] for p in bad}
    assert {"ok", "empty", "unreadable", "unsupported"} <= statuses  # or it proves little


def check_intact(clean, among_damaged):
    assert sum(r["status"] == "ok" for r in clean) > 0.9 * len(clean)
    for alone, among in zip(clean, among_damaged, strict=True):
        assert (alone["text"], alone["status"]) == (among["text"], among["status"])
        assert times(alone) == times(among)


def times(result):
    return [(w["text"], w["start_s"], w["end_s"]) for w in result["words"]]


def check_damaged(path, result):
    """The batch says of a file what `load_audio` says of it."""
    status = result["status"]
    assert result["load_s"] < LOAD_S, path.name
    try:
        audio = load_audio(path)
    except AudioError as error:
        # Of two faults the batch meets an absurd rate first, `load_audio` what the samples lack.
        rate = status == "unsupported" and "sampling_rate=" in result["message"]
        assert status == error.kind or rate, (path.name, result["message"], str(error))
        assert result["message"] and result["error_type"] == "AudioError", path.name
        assert not result["text"] and not result["words"], path.name
    else:
        assert status in HEARD, (path.name, status, result["message"])
        assert result["duration_s"] == pytest.approx(audio.duration_s), path.name
        assert result["original_sampling_rate"] == audio.original_sampling_rate, path.name
        assert result["original_channels"] == audio.original_channels, path.name
        assert (status == "silent") == (audio.is_silent and status != "too_short"), path.name


def test_130_damaged_files_between_26_intact_ones(runs, tmp_path):
    check_batch(runs, tmp_path, damaged_count=130, intact_count=26, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_2210_damaged_files_between_100_intact_ones(runs, tmp_path, seed):
    """17 mutations of 13 encodings, each pair at 10 random places; twice."""
    check_batch(runs, tmp_path, damaged_count=2_210, intact_count=100, seed=seed)


def test_an_intact_file_with_a_wrong_extension_is_heard_all_the_same(runs, tmp_path):
    waveform = load_audio(short_clips("test", 1)[0]).waveform
    paths = []
    for encoding in ENCODINGS:
        extensions = [encoding.extension, "mp3" if encoding.extension == "wav" else "wav"]
        for extension in extensions:
            paths.append(tmp_path / f"{encoding.container} {encoding.subtype} as.{extension}")
            paths[-1].write_bytes(encoded(waveform, encoding))
    results = runs.run([str(p) for p in paths])["results"]
    for right, wrong in zip(results[::2], results[1::2], strict=True):
        assert right["status"] == wrong["status"] == "ok", Path(wrong["path"]).name
        assert times(right) == times(wrong)
