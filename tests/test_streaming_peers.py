"""Our measures of streaming beside two public implementations, on the same logs.

They run where these packages are (neither is needed for anything else):

    pip install OmniSTEval simulstream
"""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptlab._stream.events import Commit, Final, Partial
from ptlab.stream_log import Step, StreamLog
from ptlab.streaming_metrics import laal, streaming_metrics
from ptlab.transcription import Word

REASON = "to compare with it: pip install OmniSTEval simulstream"


def words(texts):
    return tuple(Word(t, 0.1 * i, 0.1 * i + 0.05, 0.9) for i, t in enumerate(texts))


def random_log(seed):
    """An utterance with a committed beginning and a tail that flickers, and its last look."""
    rng = np.random.default_rng(seed)
    said, events, committed = [*rng.choice(list("abcdef"), rng.integers(3, 12))], [], 0
    duration_s = 0.5 * len(said) + 1.0
    times = np.sort(rng.uniform(0.5, duration_s + 0.4 * (seed % 2), 2 * len(said)))
    for at in map(float, times):
        new = min(int(rng.integers(0, 3)), len(said) - committed)
        if new:
            added = words(said[committed : committed + new])
            events.append(Commit(added, 0, audio_s=at, emitted_s=at))
            committed += new
        tail = [*rng.choice(list("xyz"), rng.integers(0, 3))]
        partial = words([*said[:committed], *tail])
        events.append(Partial(partial, committed, 0, audio_s=at, emitted_s=at))
    last = [*said[:committed], "z"] if seed % 3 else said[: committed - 1]
    events.append(Final(words(last), "", (), 0, 0.0, duration_s, audio_s=at, emitted_s=at))
    steps = [Step(float(t), 0.5, float(rng.uniform(0.01, 0.3))) for t in times]
    steps.append(Step(duration_s, 0.5, 0.1))
    return StreamLog(tuple(events), tuple(steps), duration_s, "compute")


LOGS = [random_log(seed) for seed in range(12)]
TRUTH = pd.DataFrame({"text": list("abcdefg"), "start_s": np.arange(7.0), "end_s": np.arange(1, 8)})


def ours(logs):
    return streaming_metrics(logs, [TRUTH] * len(logs), [" ".join(TRUTH.text)] * len(logs))


def theirs_laal_s(cases):
    """OmniSTEval's LAAL, whose unit is that of what it is given, of recordings.

    A recording is its delays, its duration and the number of words in its reference.
    """
    scoring = pytest.importorskip("omnisteval.scoring", reason=REASON)
    data = pytest.importorskip("omnisteval.data", reason=REASON)
    instances = [
        data.Instance(
            reference=" ".join("a" * words),
            source_length=duration_s,
            emission_cu=list(delays_s),
        )
        for delays_s, duration_s, words in cases
    ]
    return scoring.LAALScorer()(instances)


def delays_of(log):
    commits = [e for e in log.events if isinstance(e, Commit)]
    return [c.emitted_s for c in commits for _ in c.words], log.duration_s, len(TRUTH)


def test_laal_is_that_of_omnisteval():
    """The definition is one: Papi et al. (2022), arXiv 2206.05807.

    LAAL = 1/tau * sum over i = 1 ... tau of (d_i - (i - 1) * T / max(|Y|, |Y*|)), tau the first i
    with d_i >= T. Both give a recording whose first word comes after its end that word's delay, and
    leave recordings without a word out of the mean. OmniSTEval's figures for long recordings
    (LongLAAL, LongYAAL) are others: they cut text and delays into the reference's sentences first.
    """
    for log in LOGS:
        assert ours([log]).laal_s == pytest.approx(theirs_laal_s([delays_of(log)]))
    silent = StreamLog((), (), 3.0, "audio")
    logs = [silent, *LOGS]
    assert ours(logs).laal_s == pytest.approx(theirs_laal_s(map(delays_of, logs)))
    assert np.isnan(ours([silent]).laal_s) and np.isnan(theirs_laal_s([delays_of(silent)]))


@given(
    delays_s=st.lists(st.floats(0.1, 12.0), min_size=1, max_size=12).map(sorted),
    duration_s=st.floats(0.5, 10.0),
    words=st.integers(1, 10),
)
def test_laal_is_that_of_omnisteval_for_any_delays(delays_s, duration_s, words):
    """Too many words and too few, none in time, some after the end."""
    theirs = theirs_laal_s([(delays_s, duration_s, words)])
    assert laal(delays_s, duration_s, words) == pytest.approx(theirs)


def as_simulstream(log, name):
    """Its lines: what each event deleted and added; what each step computed."""
    yield {"id": name, "metadata": {"wav_name": f"{name}.wav"}}
    shown: list[str] = []
    for event in log.events:
        if isinstance(event, Partial | Final):
            text = event.text.split()
            same = next((i for i, (a, b) in enumerate(zip(shown, text, strict=False)) if a != b),
                        min(len(shown), len(text)))  # fmt: skip
            yield {"id": name, "generated_tokens": text[same:], "deleted_tokens": shown[same:],
                   "computation_time": 0.0, "total_audio_processed": event.audio_s}  # fmt: skip
            shown = text
    for step in log.steps:
        yield {
            "id": name,
            "generated_tokens": [],
            "deleted_tokens": [],
            "computation_time": step.compute_s,
            "total_audio_processed": step.audio_s,
        }


def test_erasure_and_real_time_factor_are_those_of_simulstream(tmp_path):
    stats = pytest.importorskip("simulstream.metrics.stats", reason=REASON)
    readers = pytest.importorskip("simulstream.metrics.readers", reason=REASON)
    path = tmp_path / "log.jsonl"
    lines = [line for n, log in enumerate(LOGS) for line in as_simulstream(log, str(n))]
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    config = SimpleNamespace(detokenizer_type="simuleval", latency_unit="word")
    reader = readers.LogReader(config, str(path))
    found = ours(LOGS)
    assert found.erasure == pytest.approx(stats.NormalizedErasure().compute(reader))
    assert found.erasure > 0.1
    assert found.rtf == pytest.approx(stats.RealTimeFactor().compute(reader))
