"""CTC against its definition: on tiny inputs every path is enumerated."""

import itertools
import math

import numpy as np
import pytest
from fakes import peak_of
from hypothesis import given, settings
from hypothesis import strategies as st

from ptlab import ctc
from ptlab._speech import lattice
from ptlab.errors import AlignmentError
from ptlab.text import VOCABULARY


def random_log_probs(frames, vocab, seed):
    logits = np.random.default_rng(seed).normal(size=(frames, vocab)) * 2
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def every_path(log_probs):
    """(path, log-probability) of each of vocab ** frames paths: the oracle."""
    frames, vocab = log_probs.shape
    for path in itertools.product(range(vocab), repeat=frames):
        yield path, sum(log_probs[t, token] for t, token in enumerate(path))


def by_definition(path, blank=0):
    merged = [token for token, _ in itertools.groupby(path)]
    return [token for token in merged if token != blank]


@pytest.mark.parametrize("tokens", [[], [1], [1, 2], [1, 1], [2, 1, 2]])
@pytest.mark.parametrize("seed", [0, 1])
def test_forward_sums_and_viterbi_maximises_over_all_paths(tokens, seed):
    matrix = random_log_probs(5, 3, seed)
    scores = [score for path, score in every_path(matrix) if by_definition(path) == tokens]
    assert ctc.forward_log_prob(matrix, tokens) == pytest.approx(np.logaddexp.reduce(scores))
    assert ctc.align(matrix, tokens).score == pytest.approx(max(scores))


def test_the_probabilities_of_all_texts_sum_to_one():
    matrix = random_log_probs(4, 3, 7)
    texts = {tuple(by_definition(path)) for path, _ in every_path(matrix)}
    total = sum(math.exp(ctc.forward_log_prob(matrix, list(t))) for t in texts)
    assert total == pytest.approx(1)


@given(st.lists(st.integers(0, 3), max_size=12))
def test_collapse_is_the_definition_and_can_be_carried_over_a_cut(path):
    assert ctc.collapse(path) == by_definition(path)
    for cut in range(1, len(path)):
        head, tail = path[:cut], path[cut:]
        assert ctc.collapse(head) + ctc.collapse(tail, previous=head[-1]) == by_definition(path)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 30), st.lists(st.integers(1, 5), max_size=8))
def test_spans_spell_the_tokens_in_order(seed, extra, tokens):
    doubles = sum(a == b for a, b in itertools.pairwise(tokens))
    matrix = random_log_probs(len(tokens) + doubles + extra, 6, seed)
    spans = ctc.align(matrix, tokens).spans
    path = np.zeros(len(matrix), dtype=int)
    for token, (start, end) in zip(tokens, spans, strict=True):
        assert start < end
        path[start:end] = token
    assert ctc.collapse(path) == tokens


def test_long_texts_are_aligned():  # more states than fit into the int8 of the way back
    tokens = [1 + i % 5 for i in range(300)]
    path = [x for t in tokens for x in (t, 0)]
    spans = ctc.align(np.log(np.eye(6)[path] * 0.9 + 0.1 / 6), tokens).spans
    assert [start for start, _ in spans] == list(range(0, 600, 2))


@settings(max_examples=60)
@given(
    st.integers(0, 10_000), st.lists(st.integers(1, 4), min_size=1, max_size=9), st.integers(0, 20)
)
def test_the_best_path_does_not_depend_on_where_it_is_cut_into_blocks(seed, tokens, extra):
    """A block is traced back among few states: those in reach of its end."""
    frames = len(tokens) + sum(a == b for a, b in itertools.pairwise(tokens)) + extra
    matrix, whole = random_log_probs(frames, 5, seed), lattice.BLOCK
    expected = ctc.align(matrix, tokens)
    try:
        for lattice.BLOCK in (1, 2, 3, 7):
            assert ctc.align(matrix, tokens) == expected
    finally:
        lattice.BLOCK = whole


def test_an_hour_can_be_aligned():
    """Its 180,000 frames by 100,000 states would take 18 GB; a twentieth of each is enough here."""
    rng = np.random.default_rng(0)
    matrix, tokens = random_log_probs(9_000, 46, 0), rng.integers(1, 46, 2_500)
    found, peak = peak_of(lambda: ctc.align(matrix, tokens))
    assert found.spans[0][0] >= 0 and found.spans[-1][1] <= 9_000
    assert peak < 9_000 * 5_001 / 2


@given(st.integers(0, 10_000), st.integers(0, 40))
@settings(max_examples=40)
def test_the_greedy_path_is_the_best_alignment_of_its_own_text(seed, frames):
    matrix = random_log_probs(frames, 6, seed)
    greedy = ctc.greedy_alignment(matrix)
    assert list(greedy.tokens) == ctc.collapse(ctc.greedy_path(matrix))
    searched = ctc.align(matrix, greedy.tokens)
    assert (searched.tokens, searched.spans) == (greedy.tokens, greedy.spans)
    assert searched.score == pytest.approx(greedy.score)


def test_forward_agrees_with_torch():
    import torch

    matrix, tokens = random_log_probs(40, 46, 3), [7, 7, 12, 4, 33, 9]
    loss = torch.nn.functional.ctc_loss(
        torch.tensor(matrix)[:, None], torch.tensor([tokens]), [40], [6], reduction="sum"
    )
    assert ctc.forward_log_prob(matrix, tokens) == pytest.approx(-loss.item())


@given(st.lists(st.integers(0, 45), max_size=40))
@settings(max_examples=60)
def test_spelling_agrees_with_transformers(ids):
    tokenizer = hugging_face_tokenizer()
    theirs = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    for special in ("<s>", "</s>"):  # theirs keeps them unless it also drops <unk>
        theirs = theirs.replace(special, "")
    assert ctc.tokens_to_text(ctc.collapse(ids)) == " ".join(theirs.split())


def hugging_face_tokenizer(cache=[]):  # noqa: B006  built once
    import json
    import tempfile
    from pathlib import Path

    from transformers import Wav2Vec2CTCTokenizer

    if not cache:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "vocab.json"
            path.write_text(json.dumps({t: i for i, t in enumerate(VOCABULARY)}), "utf-8")
            cache.append(Wav2Vec2CTCTokenizer(str(path)))
    return cache[0]


def test_too_few_frames_say_how_many_are_needed():
    with pytest.raises(AlignmentError, match="2 tokens need at least 3 frames, but there are 2"):
        ctc.align(random_log_probs(2, 3, 0), [1, 1])


def test_a_batch_is_refused_with_advice():
    with pytest.raises(AlignmentError, match=r"expected \(frames, vocab\)"):
        ctc.decode(np.zeros((1, 5, 46)))


def test_a_blank_among_the_tokens_is_refused():
    with pytest.raises(AlignmentError, match="leave it out"):
        ctc.align(random_log_probs(5, 3, 0), [1, 0, 2])


def test_frame_times_come_from_hop_and_receptive_field():
    # n samples give floor((n - 400) / 320) + 1 frames; the last one's field ends inside the clip
    times = ctc.frame_times(49)
    assert times[-1] * 16_000 + 200 <= 16_000
    assert np.diff(times) == pytest.approx(0.02)
    middle = (times[1:] + times[:-1]) / 2
    assert ctc.frame_boundary(np.arange(1, 49)) == pytest.approx(middle)


def one_hot(text, vocabulary=VOCABULARY, sure=0.95):
    """Log-probs whose greedy path spells ``text`` with ``_`` for the blank."""
    ids = [0 if c == "_" else vocabulary.index(c) for c in text]
    probs = np.full((len(ids), len(vocabulary)), (1 - sure) / (len(vocabulary) - 1))
    probs[np.arange(len(ids)), ids] = sure
    return np.log(probs)


def test_words_share_a_short_gap_and_leave_a_long_pause_alone():
    path = "__oo_i__|__bb_oo_m" + "_" * 40 + "|" + "_" * 40 + "d_i_a__"
    words = ctc.word_segments(ctc.char_segments(one_hot(path)), lead=3, tail=6)
    assert [w.text for w, _ in words] == ["oi", "bom", "dia"]
    oi, bom, dia = (w for w, _ in words)
    assert oi.end_frame == bom.start_frame  # six frames between, shared
    assert bom.end_frame == bom.last_frame + 6
    assert dia.start_frame == dia.first_frame - 3
    assert all(a.end_frame <= b.start_frame for a, b in itertools.pairwise([oi, bom, dia]))


def test_blanks_between_characters_are_shared_half_and_half():
    (a, b) = ctc.char_segments(one_hot("__a____b_"))
    assert (a.first_frame, a.last_frame, b.first_frame) == (2, 3, 7)
    assert a.end_frame == b.start_frame == 5


def test_silence_has_no_characters():
    assert ctc.char_segments(one_hot("____")) == []
    assert ctc.word_segments([]) == []
    assert ctc.decode(np.zeros((0, 46))) == ""
