"""Log-probs that are read frame by frame: the same words, from little memory, in any pieces."""

import numpy as np
import pytest
import soundfile
from fakes import HOP, RATE, Speller, sound_of
from hypothesis import given, settings
from hypothesis import strategies as st

from ptlab._batch.run import BatchRun
from ptlab._speech.windows import join_windows
from ptlab.batch import transcribe_files
from ptlab.confidence import Calibrator, frame_confidence
from ptlab.text import VOCABULARY
from ptlab.transcribe import Transcriber

BLANK, SPACE = 0, VOCABULARY.index("|")


def random_log_probs(frames, seed, dtype=np.float32):
    """Blanks, spaces and letters, some of them doubtful."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(frames, len(VOCABULARY))) * rng.choice([1, 4], (frames, 1))
    logits[:, [BLANK, SPACE]] += 2
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(dtype)


def transcriber_with(method="tsallis", path=0.0):
    found = Transcriber(Speller(), window_s=3.0, overlap_s=1.0)
    found.calibrator = Calibrator((0.1, 0.9), (0.2, 0.8), method=method, path=path)
    return found


def test_of_every_frame_the_best_token_how_calm_and_how_sure():
    log_probs = random_log_probs(200, seed=0)
    frames = transcriber_with("max_prob").read(log_probs)
    assert (log_probs[np.arange(200), frames["token"]] == frames["best"]).all()
    assert (frames["best"][:, None] >= log_probs).all()
    quiet = np.exp(log_probs[:, BLANK]) + np.exp(log_probs[:, SPACE])
    assert np.exp(frames["calm"]) == pytest.approx(quiet, rel=1e-5)
    assert (frames["sure"] == frame_confidence(log_probs, "max_prob")).all()


@given(
    frames=st.integers(0, 400),
    cuts=st.lists(st.integers(0, 400), max_size=6),
    method=st.sampled_from(["tsallis", "max_prob"]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_pieces_that_are_read_are_the_whole_that_is_read(frames, cuts, method, dtype):
    """To the last bit: the words of an hour must not depend on how it was cut."""
    transcriber, whole = transcriber_with(method), random_log_probs(frames, frames, dtype)
    pieces = np.split(whole, sorted(min(c, frames) for c in cuts))
    joined = np.concatenate([transcriber.read(piece) for piece in pieces])
    assert joined.tobytes() == transcriber.read(whole).tobytes()


@settings(max_examples=20)
@given(seed=st.integers(0, 1_000), path=st.sampled_from([0.0, 0.5]))
def test_windows_are_joined_at_the_same_frames_and_spell_the_same(seed, path):
    transcriber = transcriber_with(path=path)
    runs = [(100 * HOP * n, random_log_probs(149, 7 * seed + n)) for n in range(4)]
    joined = join_windows(transcriber.model, runs)
    read = join_windows(transcriber.model, [(s, transcriber.read(m)) for s, m in runs])
    assert read.tobytes() == transcriber.read(joined).tobytes()
    expected = transcriber.from_log_probs(joined, 9.0)
    assert len(expected.words) > 5
    assert transcriber.from_log_probs(read, 9.0) == expected


def test_a_batch_holds_little_of_a_file_that_is_under_way(tmp_path, monkeypatch):
    """Log-probs, or views of them, would be 184 bytes a frame: 41 MB for an hour with overlaps."""
    held, finish = [], BatchRun._finish

    def watched(run, number, pieces, *rest):
        arrays = pieces.frames.values()
        held.append((sum(map(len, arrays)), sum(bytes_behind(a) for a in arrays)))
        finish(run, number, pieces, *rest)

    monkeypatch.setattr(BatchRun, "_finish", watched)
    sound = np.tile(sound_of("b_o_m|d_i_a|_____"), 60)
    soundfile.write(tmp_path / "long.wav", sound, RATE, "FLOAT")
    transcriber = transcriber_with()
    report = transcribe_files([tmp_path / "long.wav"], transcriber, progress=False)
    alone = transcriber.transcribe(tmp_path / "long.wav")
    assert report[0].windows == alone.windows > 5
    assert report[0].words == alone.words
    ((frames, size),) = held
    assert frames > report[0].duration_s * RATE / HOP  # all windows were there
    assert size <= 24 * frames


def bytes_behind(array):
    """What an array keeps alive, itself or all of what it is a part of."""
    while array.base is not None:
        array = array.base
    return array.nbytes
