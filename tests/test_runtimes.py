"""Forms of one model side by side: what is counted, who is compared, and what a verdict says."""

import json
import math
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ptlab import plots, runtimes
from ptlab._export import runtime_quality
from ptlab._export.runtime_costs import load_options, measure_costs
from ptlab._export.runtime_quality import Likeness, likeness, verdict
from ptlab._export.runtime_worker import Worker, files_size
from ptlab.data import load_corpus
from ptlab.errors import DataError, ModelError, PtlabError
from ptlab.export import export_onnx
from ptlab.machine import DECISIVE, Machine, parse_cpuinfo, this_machine
from ptlab.metrics import PairedComparison, error_rates, paired_comparison
from ptlab.models import load_model
from ptlab.runtimes import compare_runtimes
from ptlab.text import normalize_text
from ptlab.transcribe import Transcriber


class Clockwork:
    """A process that needs as long as its model's name says, and notes who was asked when."""

    log: list = []  # noqa: RUF012

    def __init__(self, options, threads):
        self.rtf, self.threads = float(options["name_or_path"]), threads
        self.facts = {"load_s": self.rtf * threads, "size_bytes": 5_000_000, "sampling_rate": 1_000}
        self.asked, self.open = 0, True

    def ask(self, samples=None):
        if samples is None:
            return {"peak_mb": 100.0 * self.threads}
        self.asked += 1
        self.log.append((self.rtf, self.threads, samples))
        slow = 10 if self.asked == 1 else 1 + self.asked % 3  # the first run is never counted
        return {"seconds": slow * self.rtf / self.threads * samples / 1_000}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.open = False


@pytest.fixture
def clockwork():
    Clockwork.log = []
    return Clockwork


def test_costs_are_medians_of_rounds_after_a_run_that_does_not_count(clockwork):
    models = {"slow": "0.5", "fast": "0.25"}
    found = measure_costs(models, lengths_s=[4], threads=[1, 2], rounds=3, start=clockwork)
    speeds = found.speeds.set_index(["model", "threads"])
    # runs 2, 3 and 4 take 3, 1 and 2 times the factor
    for (name, threads), row in speeds.iterrows():
        factor = float(models[name]) / threads
        assert (row.rtf, row.rtf_min, row.rtf_max) == pytest.approx(
            (2 * factor, factor, 3 * factor)
        )
    assert found.models.loc["slow"].tolist() == [5.0, 0.5, 200.0]  # MB, least s, most MB
    assert found.to_frame().columns.tolist() == [
        "size_mb", "load_s", "memory_mb", "rtf_4s_1t", "rtf_4s_2t",
    ]  # fmt: skip
    assert str(this_machine()) in str(found)


def test_models_take_turns_and_the_order_moves_on(clockwork):
    models = {"a": "0.1", "b": "0.2", "c": "0.3"}
    measure_costs(models, lengths_s=[2, 1], threads=[1], rounds=3, start=clockwork)
    warm, rounds = clockwork.log[:3], clockwork.log[3:]
    assert [(rtf, samples) for rtf, _, samples in warm] == [(0.1, 2000), (0.2, 2000), (0.3, 2000)]
    order = [rtf for rtf, _, samples in rounds if samples == 1_000]
    assert order == [0.1, 0.2, 0.3, 0.2, 0.3, 0.1, 0.3, 0.1, 0.2]


def test_numbers_and_models_that_do_not_fit_are_told(clockwork, tiny_model):
    for wrong in ({"lengths_s": []}, {"threads": [0]}, {"rounds": 0}):
        with pytest.raises(ModelError, match=rf"{next(iter(wrong))}=.*expected positive numbers"):
            measure_costs({"a": "0.1"}, start=clockwork, **wrong)
    for nothing in ({}, ["mini"]):
        with pytest.raises(ModelError, match="Give models by name"):
            measure_costs(nothing, start=clockwork)
    with pytest.raises(ModelError, match=r"of type SpeechModel; .*give its name or path"):
        load_options(tiny_model)
    given = {"name_or_path": "mini", "dtype": "bfloat16"}
    assert load_options(given) == {**given, "device": "cpu"}
    as_text = load_options({"name_or_path": Path("runs/a"), "dtype": tiny_model.dtype})
    assert as_text == {
        "name_or_path": str(Path("runs/a")),
        "dtype": "torch.float32",
        "device": "cpu",
    }


# -- a real process


def test_a_process_says_what_its_model_costs_and_that_it_died(tiny_model, tmp_path):
    folder = export_onnx(tiny_model, tmp_path / "tiny").folder
    with Worker({"name_or_path": str(folder), "device": "cpu"}, threads=1) as worker:
        files = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
        assert worker.facts["size_bytes"] == files
        assert worker.facts["sampling_rate"] == 16_000 and worker.facts["load_s"] > 0
        assert worker.ask(samples=8_000)["seconds"] > 0
        assert worker.ask()["peak_mb"] > 30
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(ModelError, match=r"ended with code .*it last said: nothing"):
            worker.ask(samples=800)


def test_a_model_that_a_process_cannot_load_is_told():
    with pytest.raises(ModelError, match=r"ModelError: No ONNX model at 'x\.onnx'"):
        Worker({"name_or_path": "x.onnx"}, threads=1)


def test_the_size_is_that_of_all_files(tmp_path, tiny_model):
    class Graph:
        path, folder = tmp_path / "x.int8.onnx", tmp_path

    for name, size in ("x.int8.onnx", 10), ("x.int8.onnx.data", 300), ("diary.txt", 7):
        (tmp_path / name).write_bytes(bytes(size))
    assert files_size(Graph) == 310
    Graph.path = tmp_path / "model.onnx"  # in a folder of its own
    assert files_size(Graph) == 317
    from_hub = type("FromHub", (), {"model": tiny_model.model, "folder": None})
    assert files_size(from_hub) == 4 * tiny_model.num_parameters


# -- the processor


def test_flags_of_intel_and_arm_are_read():
    intel = "processor : 0\nmodel name\t: Intel(R) Xeon(R)  CPU\nflags\t\t: fpu avx2 avx512_vnni\n"
    assert parse_cpuinfo(intel) == ("Intel Xeon CPU", {"fpu", "avx2", "avx512_vnni"})
    assert parse_cpuinfo("Features\t: fp asimddp\n")[1] == {"fp", "asimddp"}
    assert str(Machine("ARM", 1)) == "ARM, 1 core: its flags are not known"
    here = this_machine()
    assert here.cores >= 1 and set(here.flags) <= set(DECISIVE)


# -- likeness and verdict


def test_likeness_looks_at_the_token_that_the_first_model_finds_best():
    first = np.log([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    second = np.log([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    found = likeness(first, second)
    assert (found.frames, found.same) == (3, 2)
    assert found.difference == pytest.approx((math.log(0.8 / 0.6) + math.log(0.6 / 0.3)) / 3)
    both = found + likeness(first[:1], first[:1])
    assert (both.frames, both.same, both.apart) == (4, 3, pytest.approx(found.apart))
    nothing = Likeness(0, 0, 0.0)
    assert (nothing.agreement, nothing.difference) == (1.0, 0.0)
    with pytest.raises(ModelError, match="not two forms of one model"):
        likeness(first, second[:2])


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.002, 0.004, "not worse"),
        (-0.002, 0.005, "not worse"),  # the margin itself may be lost
        (-0.002, 0.006, "not shown"),  # holds zero, and shows nothing
        (0.001, 0.006, "not shown"),
        (0.006, 0.009, "worse"),
        (-0.02, -0.01, "not worse"),
    ],
)
def test_a_verdict_is_about_the_margin_and_not_about_zero(low, high, said):
    assert verdict(PairedComparison((low + high) / 2, low, high, 0.5), 0.005) == said


# -- all together


@pytest.fixture(scope="module")
def clips():
    """Clips of six voices of the test split, of about four seconds."""
    corpus = load_corpus("test")
    order = (corpus.frame.duration_s - 4).abs().argsort()
    chosen = corpus.frame.iloc[order].groupby("speaker").head(1).head(6)
    return replace(corpus, frame=chosen.reset_index(drop=True))


class Deaf:
    """mini, which does not hear the second half of anything."""

    def __init__(self, model):
        self._model = model

    def __getattr__(self, name):
        return getattr(self._model, name)

    def log_probs(self, waveforms, **options):
        waves = [np.where(np.arange(len(w)) < len(w) / 2, w, 0) for w in waveforms]
        return self._model.log_probs(waves, **options)


@pytest.fixture(scope="module")
def comparison(clips):
    mini = load_model("mini", device="cpu")
    loaded = {"0.4": mini, "0.2": mini, "0.1": Deaf(mini)}
    Clockwork.log = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtimes, "load_model", lambda name_or_path, device: loaded[name_or_path])
        return compare_runtimes(
            {"whole": "0.4", "copy": "0.2", "deaf": "0.1"}, clips, margin=0.1, lengths_s=[1, 5],
            rounds=2, n_resamples=200, start=Clockwork,
        )  # fmt: skip


def test_rates_and_intervals_are_those_of_metrics(comparison, clips):
    rows = comparison.clips
    texts = {name: rows[rows.model == name].text.tolist() for name in comparison.quality.index}
    references = rows[rows.model == "whole"].reference.tolist()
    for name, row in comparison.quality.iterrows():
        rates = error_rates(references, texts[name])
        assert (row.wer, row.cer) == (rates.wer, rates.cer)
        difference = paired_comparison(
            references, texts["whole"], texts[name], groups=clips.frame.speaker.tolist(),
            n_resamples=200,
        )  # fmt: skip
        least = 0 if name == "whole" else 3 / sum(len(r.split()) for r in references)
        assert (row.wer_change, row.wer_low, row.wer_high) == (
            difference.difference, difference.low, max(difference.high, least),
        )  # fmt: skip
        assert row.changed == sum(a != b for a, b in zip(texts["whole"], texts[name], strict=True))
    heard = Transcriber("mini", device="cpu").transcribe(clips.audio(0)).text
    assert texts["whole"][0] == texts["copy"][0] == heard


def test_a_copy_is_not_worse_and_a_deaf_model_is(comparison):
    table = comparison.quality
    assert table.verdict.tolist() == ["reference", "not worse", "worse"]
    assert table.loc["copy", ["agreement", "difference", "wer_change"]].tolist() == [1, 0, 0]
    assert table.verdict["deaf"] == "worse" and table.wer_change["deaf"] > 0
    assert 0.3 < table.agreement["deaf"] < 1
    assert comparison.reference == "whole"


def test_the_fastest_is_sought_among_those_that_are_not_worse(comparison):
    assert comparison.speedups().tolist() == pytest.approx([1, 2, 4])
    assert comparison.speedups(length_s=5, threads=2)["deaf"] == pytest.approx(4)
    assert comparison.fastest() == "copy"
    with pytest.raises(ModelError, match=r"threads=3 was not measured; choose from \[1, 2\]"):
        comparison.speedups(threads=3)


def test_buckets_of_length_hold_every_word_once(comparison):
    rows, edge = comparison.clips, comparison.clips.length_s.median()
    table = comparison.by_length([edge])
    assert table.index.tolist() == ["whole", "copy", "deaf"]
    chosen = rows[(rows.model == "deaf") & (rows.length_s < edge)]
    short = chosen.errors.sum() / chosen.words.sum()
    assert table.loc["deaf", ("WER", f"0 to {edge:g} s")] == pytest.approx(short)
    assert len(table.columns) == 4


def test_it_prints_machine_margin_and_verdicts(comparison):
    text = str(comparison)
    for part in ("whole", "deaf", "not worse", "margin 10.0%", str(this_machine()), "6 clips"):
        assert part in text
    assert "<pre>" in comparison._repr_html_()
    frame = comparison.to_frame()
    assert {"size_mb", "rtf_5s_2t", "wer", "verdict"} <= set(frame.columns)
    assert json.loads(frame.to_json())["verdict"]["deaf"] == "worse"


def test_few_clips_without_a_change_show_nothing(clips):
    """No changed word in n: the share of changed words may still be 3 / n."""
    mini = Transcriber("mini", device="cpu")
    again = Transcriber(mini.model)
    one = replace(clips, frame=clips.frame.head(1))
    words = len(normalize_text(one.frame.text[0]).split())
    for margin, said in ((3.1 / words, "not worse"), (2.9 / words, "not shown")):
        table, _ = runtime_quality.quality([("a", mini), ("b", again)], one, margin)
        assert table.verdict["b"] == said
        assert table.wer_high["b"] == pytest.approx(3 / words) and table.changed["b"] == 0


def test_what_cannot_be_compared_is_told(clips, clockwork):
    with pytest.raises(ModelError, match=r"margin=-1; expected the WER that may be lost"):
        compare_runtimes({"a": "mini"}, clips, margin=-1, start=clockwork)
    mute = replace(clips, frame=clips.frame.assign(text=""))
    with pytest.raises(DataError, match="No clip of the split has a text"):
        runtime_quality.quality([("a", Transcriber("mini", device="cpu"))], mute, 0.005)


def test_the_plot_shows_all_models_threads_and_the_margin(comparison):
    axes = plots.plot_runtimes(comparison, 5)
    axes[0].figure.canvas.draw()
    assert [t.get_text() for t in axes[0].get_yticklabels()] == ["whole", "copy", "deaf"]
    legend = [t.get_text() for t in axes[1].get_legend().get_texts()]
    assert legend == ["1 thread", "2 threads"]
    assert "clips of 5 s" in axes[1].get_title()
    assert [t.get_text() for t in axes[2].texts] == ["reference", "not worse", "worse"]
    assert all(ax.get_xlabel() for ax in axes)
    plt.close(axes[0].figure)
    with pytest.raises(PtlabError, match=r"length_s=3 was not measured; choose from \[1, 5\]"):
        plots.plot_runtimes(comparison, 3)


def test_the_frame_of_costs_needs_no_quality(clockwork):
    found = measure_costs({"a": "0.1"}, lengths_s=[1], threads=[1], rounds=1, start=clockwork)
    assert isinstance(found.to_frame(), pd.DataFrame) and "median of 1 rounds" in str(found)
