"""Many files: a result for each, the text that each has alone, whatever is beside it."""

import itertools
import json
import os
import shutil
import threading

import datasets
import numpy as np
import pandas as pd
import pytest
import soundfile
from fakes import Speller
from hypothesis import given, settings
from hypothesis import strategies as st

from ptlab._batch.audio_queue import AudioQueue
from ptlab._batch.inputs import find_sources
from ptlab._batch.run import LOOK_AHEAD, BatchRun
from ptlab.batch import STATUSES, transcribe_files
from ptlab.data import Corpus
from ptlab.errors import DataError, PtlabError
from ptlab.minibatches import lanes_for
from ptlab.transcribe import Transcriber

RATE = 16_000
SECONDS = (0.4, 0.7, 1.0, 1.3, 1.3, 1.9, 2.6, 4.2, 11.0)  # the last ones are cut into windows
WINDOWS = {"window_s": 3.0, "overlap_s": 1.0}


def run(inputs, model, **options):
    return transcribe_files(inputs, model, progress=False, **options)


@pytest.fixture(scope="module")
def transcriber(tiny_model):
    return Transcriber(tiny_model, **WINDOWS)


@pytest.fixture(scope="module")
def paths(tmp_path_factory, speechlike):
    """Sounds of many lengths and of some formats, rates and numbers of channels."""
    folder = tmp_path_factory.mktemp("sounds")
    kinds = [("wav", RATE, 1), ("flac", 44_100, 2), ("ogg", 24_000, 1), ("mp3", 22_050, 1)]
    found = []
    for n, seconds in enumerate(SECONDS):
        suffix, rate, channels = kinds[n % len(kinds)]
        wave = speechlike(seconds, seed=n, rate=rate)
        found.append(str(folder / f"{n}.{suffix}"))
        soundfile.write(found[-1], np.stack([wave] * channels, axis=1), rate)
    return found


@pytest.fixture(scope="module")
def alone(transcriber, paths):
    """What each is on its own."""
    found = {path: transcriber.transcribe(path) for path in paths}
    assert len({t.text for t in found.values()}) == len(paths)  # so that mix-ups are seen
    return found


def check(results, alone):
    for result in results:
        single = alone[result.path]
        assert result.status == "ok"
        assert result.text == single.text
        assert (result.duration_s, result.windows) == (single.duration_s, single.windows)
        for one, other in zip(result.words, single.words, strict=True):
            assert (one.text, one.start_s, one.end_s) == (other.text, other.start_s, other.end_s)
            assert one.confidence == pytest.approx(other.confidence, abs=1e-3)


# --- text ----------------------------------------------------------------------------------------


@settings(max_examples=12)
@given(st.data())
def test_text_is_that_of_the_file_alone_whatever_is_beside_it(transcriber, paths, alone, data):
    inputs = data.draw(st.lists(st.sampled_from(paths), max_size=12))
    batch_s = data.draw(st.sampled_from([0.1, 3.0, 7.0, 80.0]))
    report = run(inputs, transcriber, batch_s=batch_s, jobs=data.draw(st.integers(1, 3)))
    assert [result.path for result in report] == inputs
    check(report, alone)


def test_a_long_file_neither_waits_nor_keeps_others_waiting(transcriber, paths, alone):
    """Its windows share mini-batches with short files."""
    calls = []

    watched = Transcriber(Recorder(transcriber.model, calls), **WINDOWS)
    check(run(paths, watched, batch_s=12.0 * lanes_for(transcriber.model)), alone)
    assert any(3 * RATE in lengths and min(lengths) < 3 * RATE for lengths in calls)
    assert max(len(lengths) * max(lengths) for lengths in calls) <= 12 * RATE


class Recorder:
    """A model that notes the lengths of what it hears together."""

    def __init__(self, model, calls):
        self._model, self._calls = model, calls

    def __getattr__(self, name):
        return getattr(self._model, name)

    def log_probs(self, waveforms, **options):
        self._calls.append([len(w) for w in waveforms])
        return self._model.log_probs(waveforms, **options)


def test_a_model_whose_padding_shows_hears_one_window_at_a_time(make_tiny, paths):
    model = make_tiny(feat_extract_norm="group", conv_bias=False, do_stable_layer_norm=False)
    assert not model.pads_exactly
    calls = []
    report = run(paths, Transcriber(Recorder(model, calls), **WINDOWS))
    assert {len(lengths) for lengths in calls} == {1}
    single = Transcriber(model, **WINDOWS)
    assert [r.text for r in report] == [single.transcribe(p).text for p in paths]
    assert "hears one window at a time" in report.notes[0]


def test_similar_lengths_are_heard_together(transcriber, paths):
    calls = []
    run(paths, Transcriber(Recorder(transcriber.model, calls)), batch_s=8.0)  # sees all at once
    assert len(calls) > 2
    for one, other in itertools.combinations(calls, 2):
        assert max(one) <= min(other) or max(other) <= min(one)


def test_the_same_content_is_heard_once_and_has_two_results(transcriber, paths, alone, tmp_path):
    twin = shutil.copy(paths[3], tmp_path / "twin.mp3")
    calls = []
    watched = Transcriber(Recorder(transcriber.model, calls), **WINDOWS)
    report = run([paths[3], str(twin), paths[3], paths[0]], watched)
    assert sum(map(len, calls)) == 2
    assert [r.path for r in report] == [paths[3], str(twin), paths[3], paths[0]]
    assert len({r.text for r in report[:3]}) == 1
    assert report.heard_s == pytest.approx(sum(alone[p].duration_s for p in (paths[3], paths[0])))


# --- statuses ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broken(tmp_path_factory, speechlike):
    """Path of every kind of bad file -> its status."""
    folder = tmp_path_factory.mktemp("broken")
    wave = speechlike(1.5)
    kinds = {}

    def add(name, status, content=None, **options):
        path = folder / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            soundfile.write(path, content, options.pop("rate", RATE), **options)
        kinds[str(path)] = status
        return path

    whole = add("whole.flac", "ok", wave).read_bytes()
    add("missing.wav", "unreadable")
    add("cut.flac", "unreadable", whole[: len(whole) // 2])
    add("nan.wav", "unreadable", np.full(RATE, np.nan, np.float32), subtype="FLOAT")
    add("nothing.wav", "empty", b"")
    add("no samples.wav", "empty", np.zeros(0, np.float32))
    add("text.wav", "unsupported", b"This is not sound at all, only text in a file.")
    add("counts.wav", "unsupported", 30_000 * wave, subtype="FLOAT")
    add("cancel.wav", "unsupported", np.stack([wave, -wave], axis=1))
    add("short.wav", "too_short", wave[:399])
    add("one.wav", "too_short", wave[:1], rate=48_000)
    add("silent.wav", "silent", np.zeros(RATE, np.float32))
    add("eight bit.wav", "ok", wave, subtype="PCM_U8")
    add("five.wav", "ok", np.stack([wave] * 5, axis=1), rate=96_000)
    (folder / "folder.wav").mkdir()
    kinds[str(folder / "folder.wav" / "inside.wav")] = "unreadable"
    return kinds


def test_every_kind_of_file_gets_its_status_and_a_message(transcriber, broken, paths, alone):
    inputs = [p for pair in zip(broken, paths * 2, strict=False) for p in pair]
    report = run(inputs, transcriber)
    assert [r.path for r in report] == inputs
    for result in report:
        assert result.status == broken.get(result.path, "ok"), result
        assert (result.message is None) == (result.status == "ok")
        assert result.digest or result.status == "unreadable"
    check([r for r in report if r.path in alone], alone)
    assert sum(report.counts.values()) == len(report)
    assert {r.path for r in report.failed} == {p for p, s in broken.items() if s != "ok"}
    assert all(r.text == "" for r in report.failed if r.status != "silent")


def test_facts_of_a_file_are_told(transcriber, broken):
    results = {os.path.basename(r.path): r for r in run(list(broken), transcriber)}
    five = results["five.wav"]
    assert (five.original_channels, five.original_sampling_rate) == (5, 96_000)
    assert five.was_resampled and five.duration_s == pytest.approx(1.5 / 6, abs=0.01)
    assert not results["eight bit.wav"].was_resampled
    assert 0 < five.load_s + five.model_s <= five.total_s
    assert results["cut.flac"].error_type == "AudioError"
    assert results["cut.flac"].original_sampling_rate == RATE


def test_sound_without_a_word_is_empty(transcriber, speechlike, tmp_path):
    class Deaf(Recorder):
        def log_probs(self, waveforms, **options):
            found = super().log_probs(waveforms, **options)
            for matrix in found:
                matrix[:, self.blank] = 0.0
                matrix[:, 1:] = -50.0
            return found

    soundfile.write(tmp_path / "a.wav", speechlike(1), RATE)
    (result,) = run([tmp_path / "a.wav"], Transcriber(Deaf(transcriber.model, [])))
    assert (result.status, result.text, result.confidence) == ("empty", "", None)
    assert "No word was recognised" in result.message


def test_an_error_of_the_model_stays_with_its_file(transcriber, paths, alone):
    class Fragile(Recorder):
        def log_probs(self, waveforms, **options):
            if any(len(w) == 30_400 for w in waveforms):  # 1.9 s
                raise RuntimeError("index 7 is out of bounds")
            return super().log_probs(waveforms, **options)

    report = run(paths, Transcriber(Fragile(transcriber.model, []), **WINDOWS))
    (bad,) = report.failed
    assert (bad.path, bad.status, bad.error_type) == (paths[5], "failed", "RuntimeError")
    assert bad.message == "index 7 is out of bounds"
    check([r for r in report if r.path != paths[5]], alone)
    assert not report.downgrades  # it was no lack of memory


def test_statuses_are_documented():
    """All of them are reached above or in the tests of memory."""
    assert set(STATUSES) == {
        "ok", "empty", "too_short", "silent", "unreadable", "unsupported", "out_of_memory", "failed"
    }  # fmt: skip


# --- memory --------------------------------------------------------------------------------------


@pytest.fixture
def no_collection(monkeypatch):
    """A full collection takes a tenth of a second where torch is loaded."""
    for room in ("minibatches", "_batch.run"):
        monkeypatch.setattr(f"ptlab.{room}.free_memory", lambda: None)


class Tight(Recorder):
    """A model with room for so many seconds at once, padding included."""

    def __init__(self, model, seconds):
        super().__init__(model, [])
        self._seconds = seconds

    def log_probs(self, waveforms, **options):
        if len(waveforms) * max(map(len, waveforms)) > self._seconds * RATE:
            raise MemoryError
        return super().log_probs(waveforms, **options)


@pytest.mark.usefixtures("no_collection")
def test_a_batch_that_is_too_large_gets_smaller_and_no_text_changes(transcriber, paths, alone):
    report = run(paths, Transcriber(Tight(transcriber.model, 6.0), **WINDOWS))
    check(report, alone)
    assert report.downgrades and all("went on with" in d for d in report.downgrades)
    assert report.downgrades[0] in str(report)
    assert not any(r.downgrades for r in report)  # their texts are as ever


@pytest.mark.usefixtures("no_collection")
def test_a_window_that_is_too_large_is_cut_smaller(tiny_model, paths):
    """The long file is heard as `Transcriber` with windows of a quarter hears it."""
    options = {"window_s": 8.0, "overlap_s": 2.0}
    report = run(paths, Transcriber(Tight(tiny_model, 3.0), **options))
    for result, seconds in zip(report, SECONDS, strict=True):
        fits = seconds < 3
        window = options if fits else {"window_s": 2.0, "overlap_s": 0.5}
        single = Transcriber(tiny_model, **window).transcribe(result.path)
        assert (result.status, result.text) == ("ok", single.text)
        assert result.windows == single.windows
        assert result.downgrades == (() if fits else ("out of memory: heard in windows of 2 s",))
    assert any(paths[-1] in d for d in report.downgrades)


@pytest.mark.usefixtures("no_collection")
def test_what_fits_in_no_window_is_out_of_memory_and_the_rest_goes_on(tiny_model, paths, alone):
    report = run(paths, Transcriber(Tight(tiny_model, 1.5), **WINDOWS))
    statuses = ["ok" if s < 1.5 else "out_of_memory" for s in SECONDS]
    assert [r.status for r in report] == statuses
    check([r for r in report if r.status == "ok"], alone)
    assert "not enough memory" in report[-1].message
    assert report[-1].error_type == "MemoryError"


def test_a_file_that_does_not_fit_while_it_is_read(transcriber, paths, alone, monkeypatch):
    from ptlab._speech import sound_stream

    original = sound_stream.checked_samples

    def checked(samples):
        if samples.shape[1] == 2 and len(samples) > 1.5 * 44_100:
            raise MemoryError
        return original(samples)

    monkeypatch.setattr(sound_stream, "checked_samples", checked)
    report = run(paths, transcriber)
    assert [r.path for r in report.failed] == [paths[5]]
    assert report[5].status == "out_of_memory"
    check([r for r in report if r.status == "ok"], alone)


def test_readers_wait_when_the_queue_is_full():
    queue, read = AudioQueue(budget_s=10.0), []

    def reader():
        for number in range(20):
            queue.put(number, 3.0)
            read.append(number)
        queue.close()

    thread = threading.Thread(target=reader, daemon=True)
    thread.start()
    taken = []
    while items := queue.take(least_s=6.0):
        taken += items
        assert queue.held_s <= 10.0
        assert len(read) <= len(taken) + 1
        for _ in items:
            queue.release(3.0)
    assert taken == list(range(20))


def test_no_more_sound_is_held_than_the_budget(transcriber, paths):
    held = []

    class Slow(Recorder):
        def log_probs(self, waveforms, **options):
            threading.Event().wait(0.01)  # readers get ahead, if they can
            held.append(queues[0].held_s)
            return super().log_probs(waveforms, **options)

    queues = []
    original = AudioQueue.__init__

    def noted(self, budget_s):
        original(self, budget_s)
        queues.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AudioQueue, "__init__", noted)
        slow = Transcriber(Slow(transcriber.model, []), **WINDOWS)
        report = run(paths, slow, batch_s=1.5, jobs=3)
    assert len(report) == len(paths)
    assert max(held) <= queues[0].budget_s == LOOK_AHEAD * 1.5 + 3.0
    assert queues[0].held_s == pytest.approx(0)


def test_sound_that_was_heard_is_let_go_at_once(tmp_path, monkeypatch):
    """The queue then counts what there is, while readers fill the room of what is done with."""
    taken, held, original = [], [], BatchRun._run

    def noted(run, windows):
        taken[:] = windows
        original(run, windows)

    class Watching(Recorder):
        def log_probs(self, waveforms, **options):
            held.append(sum(len(w.waveform) for w in taken) / RATE)
            return super().log_probs(waveforms, **options)

    monkeypatch.setattr(BatchRun, "_run", noted)
    soundfile.write(tmp_path / "minute.wav", np.ones(60 * RATE) / 2, RATE)
    watching = Transcriber(Watching(Speller(), []), **WINDOWS)
    assert run(tmp_path, watching, batch_s=12.0)[0].windows == 30
    assert max(held) > 80 and held[-1] <= 12  # all were taken at once


# --- inputs --------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path, paths):
    """A folder with folders, and what is no sound."""
    for name in ("b.wav", "a/c.wav", "a/B.WAV", ".hidden/d.wav", "._b.wav", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(paths[0], tmp_path / name)
    return tmp_path


def names(sources):
    return [sources.get(i).name for i in range(sources.count)]


def test_folders_globs_and_tables_name_their_files(tree):
    sources = find_sources(tree)
    assert names(sources) == [str(tree / n) for n in ("b.wav", "a/B.WAV", "a/c.wav")]
    assert sources.notes == (f"1 files in {tree} have no suffix of a sound file (1 .txt).",)
    assert names(find_sources(str(tree / "**" / "*.wav"))) == [
        str(tree / n) for n in ("a/c.wav", "b.wav")
    ]
    (tree / "list.csv").write_text("text,path\nolá,b.wav\ntchau,a/c.wav\n", "utf-8")
    assert names(find_sources(tree / "list.csv")) == [str(tree / n) for n in ("b.wav", "a/c.wav")]
    frame = pd.DataFrame({"file": ["x.wav", "y.wav"]})
    assert names(find_sources(frame)) == ["x.wav", "y.wav"]
    assert names(find_sources(frame.rename(columns={"file": "clip"}), "clip")) == [
        "x.wav", "y.wav",
    ]  # fmt: skip
    assert names(find_sources([tree, "z.wav"])) == [*names(sources), "z.wav"]
    assert names(find_sources(Corpus("own", frame))) == ["x.wav", "y.wav"]


def test_a_row_whose_path_is_none_does_not_stop_the_others(transcriber, paths):
    rows = [{"path": 5}, {"path": None}, str(paths[0])]
    report = transcribe_files(rows, transcriber, progress=False)
    assert [r.path for r in report] == ["row 0", "row 1", str(paths[0])]
    assert [r.status for r in report[:2]] == ["unsupported", "unreadable"]
    assert report[2].text == transcriber.transcribe(paths[0]).text


def test_rows_of_a_data_set_are_read_without_torchcodec(transcriber, paths, alone):
    rows = [{"bytes": open(p, "rb").read(), "path": p} for p in paths[:3]]  # noqa: SIM115
    for cell in (rows, [{"bytes": None, "path": p} for p in paths[:3]]):
        dataset = datasets.Dataset.from_dict({"audio": cell, "path": ["x"] * 3})
        for decode in (True, False):
            column = dataset.cast_column("audio", datasets.Audio(decode=decode))
            check(run(column, transcriber), alone)
    check(run(rows, transcriber), alone)
    nameless = [{"bytes": row["bytes"], "path": None} for row in rows]
    assert [r.path for r in run(nameless, transcriber)] == ["row 0", "row 1", "row 2"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("no such folder", "No file, folder or match"),
        (5, "type int; accepted are"),
        (pd.DataFrame({"clip": []}), "no column 'path' or 'file' or 'audio'; it has clip"),
        ({"audio": "a.wav"}, "type dict"),
    ],
)
def test_inputs_that_cannot_be_meant_are_refused(inputs, message, tiny_model):
    with pytest.raises(DataError, match=message):
        run(inputs, tiny_model)


def test_a_folder_without_sound_and_options_out_of_range_are_refused(tmp_path, transcriber):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"No sound files in .* 1 files in .*\(1 \.txt\)"):
        run(tmp_path, transcriber)
    for options in ({"batch_s": 0}, {"jobs": 0}, {"batch_s": float("nan")}):
        with pytest.raises(PtlabError, match="above 0"):
            run([], transcriber, **options)
    with pytest.raises(PtlabError, match="those of the Transcriber"):
        run([], transcriber, window_s=5.0)


def test_nothing_is_a_batch_too(transcriber):
    report = run([], transcriber)
    assert (len(report), report.counts, report.audio_s, report.speed) == (0, {}, 0, 0)
    assert "0 files: no files" in str(report)


# --- the report ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(transcriber, paths):
    return run([*paths, "nowhere.wav"], transcriber)


def test_a_report_is_a_sequence_and_prints(report, paths):
    assert len(report) == len(list(report)) == len(paths) + 1
    assert report[0] == next(iter(report)) == report.results[:1][0]
    assert report[-1].path == "nowhere.wav"
    assert report.counts == {"ok": len(paths), "unreadable": 1}
    assert report.audio_s == pytest.approx(sum(SECONDS), abs=0.3)
    text = str(report)
    assert text.startswith(f"{len(paths) + 1} files: {len(paths)} ok, 1 unreadable\n")
    assert "times real time" in text
    assert "unreadable: nowhere.wav: No file 'nowhere.wav'" in text
    assert text in repr(report) and "<pre>" in report._repr_html_()


def test_a_report_is_broken_between_words_where_a_page_ends(transcriber):
    text = str(run([f"a folder/{'long' * 12}/ {n}.wav" for n in range(2)], transcriber))
    assert max(map(len, text.splitlines()[2:])) <= 100  # below the model's name
    told = " ".join(text.split())
    assert all(f"/ {n}.wav'; check the path and the current folder." in told for n in range(2))


def test_a_report_becomes_tables(report, tmp_path):
    frame = report.to_frame()
    assert frame.path.tolist() == [r.path for r in report]
    assert frame.words.tolist() == [len(r.words) for r in report]
    report.to_csv(tmp_path / "a.csv")
    written = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
    assert written.columns.tolist() == frame.columns.tolist()
    assert written.text.tolist() == frame.text.tolist()
    report.to_jsonl(tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == frame.text.tolist()
    with pytest.raises(PtlabError, match="cannot be written"):
        report.to_csv(tmp_path / "no" / "a.csv")


@pytest.mark.parametrize("form", ["srt", "vtt", "txt"])
def test_subtitles_are_those_of_the_transcription(report, alone, tmp_path, form):
    written = report.write_subtitles(tmp_path / "new", form)
    assert [p.suffix for p in written] == [f".{form}"] * len(alone)
    for path, (name, single) in zip(written, alone.items(), strict=True):
        assert path.stem == os.path.basename(name).split(".")[0]
        content = single.text + "\n" if form == "txt" else getattr(single, f"to_{form}")()
        assert path.read_text("utf-8") == content
    with pytest.raises(PtlabError, match="choose one of srt, vtt, txt"):
        report.write_subtitles(tmp_path, "doc")


def test_subtitles_of_like_names_do_not_overwrite_each_other(transcriber, paths, tmp_path):
    inputs = [tmp_path / n for n in ("a/x.wav", "a/x.mp3", "b/x.wav", "y.wav", "y.wav")]
    for path, source in zip(
        inputs, (paths[0], paths[3], paths[4], paths[8], paths[8]), strict=True
    ):
        path.parent.mkdir(exist_ok=True)
        shutil.copy(source, path)
    report = run(inputs, transcriber)
    written = report.write_subtitles(tmp_path / "out")
    relative = [p.relative_to(tmp_path / "out").as_posix() for p in written]
    assert relative == ["a/x.wav.srt", "a/x.mp3.srt", "b/x.srt", "y.srt", "y.srt"]
    for result, path in zip(report, written, strict=True):
        assert path.read_text("utf-8") == result.transcription().to_srt()
