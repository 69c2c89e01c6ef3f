"""The live microphone from Python's side (messages in, state out), and the parts of its script."""

import base64
import json
import shutil
import subprocess

import numpy as np
import pytest
from fakes import RATE, Clock, Speller, in_packets, sound_of
from hypothesis import given, settings
from hypothesis import strategies as st

from ptlab._speech.samples import SILENCE_PEAK
from ptlab._stream.live_session import Captions, LiveTake, pcm_samples, updated
from ptlab.errors import ModelError
from ptlab.live_widget import SHOWN_LINES, LiveCaptions, live_captions
from ptlab.streaming import BufferedCTC, Commit, Final, Partial, StreamingRecognizer
from ptlab.transcription import Word

SHORT = BufferedCTC(chunk_s=0.1, left_s=0.3, right_s=0.1)
PAUSE = "_" * 100  # 2 s
TALK = "__bb_o_m|_dd_i_a__|aa_t_é__|" + PAUSE + "|ll_o_g_o" + PAUSE + "|e_|r_e" + "_" * 9
SPOKEN = "bom dia até\nlogo\ne re"

needs_node = pytest.mark.skipif(
    not shutil.which("node"), reason="needs node: install Node.js to run it"
)


def recognizer(model=None, **options):
    return StreamingRecognizer(model or Speller(), SHORT, **{"clock": None, **options})


def pcm(waveform):
    """16-bit samples of a waveform of `sound_of`, without any rounding."""
    return (waveform * 32_768).astype("<i2")


def take_of(packets, rate=RATE, **options):
    """A take that heard the packets and is over."""
    states = []
    take = LiveTake(recognizer(**options), rate, lambda t: states.append((t.captions, t.status)))
    begin = 0
    for packet in packets:
        take.accept(begin, packet)
        begin += len(packet)
    take.finish()
    take.run()
    return take, states


class Page:
    """What the browser does: sends messages; here to a widget whose answers are kept."""

    def __init__(self, monkeypatch, model=None, **options):
        self.widget, self.sent, self.begin = LiveCaptions(recognizer(model, **options)), [], {}
        monkeypatch.setattr(self.widget, "send", self.sent.append)

    def say(self, kind, **content):
        self.widget._handle_custom_msg({"kind": kind, **content}, [])

    def start(self, take="a", sampling_rate=RATE):
        self.begin[take] = 0
        self.say("start", take=take, sampling_rate=sampling_rate)

    def speak(self, samples, take="a"):
        text = base64.b64encode(samples.tobytes()).decode()
        self.say("audio", take=take, begin=self.begin[take], pcm=text)
        self.begin[take] += len(samples)

    def end(self, take="a"):
        self.say("stop", take=take)
        self.widget._thread.join(30)
        assert not self.widget._thread.is_alive()


# Captions --------------------------------------------------------------------------------------


def test_captions_are_the_finals_and_the_last_partial():
    """Folded over the events of a stream, as a reader of the events would write them down."""
    captions, lines, last = Captions(), [], None
    for event in recognizer().stream([sound_of(TALK)], RATE):
        captions = updated(captions, event)
        if isinstance(event, Final):
            lines, last = [*lines, event.text], None
        elif isinstance(event, Partial):
            last = event
        assert captions.lines == tuple(lines)
        assert captions.committed == (last.committed if last else "")
        assert captions.tentative == (last.tentative if last else "")
    assert captions.text == SPOKEN


def test_an_utterance_that_the_last_look_empties_leaves_no_line():
    word = (Word("a", 0.0, 0.1, 0.5),)
    final = Final((), "a", (), 0, start_s=0.0, end_s=1.0, audio_s=1.0, emitted_s=1.0)
    captions = Captions(("bom dia",), "a", "")
    assert updated(captions, Commit(word, 0, audio_s=1.0, emitted_s=1.0)) == captions
    assert updated(captions, final) == Captions(("bom dia",))


@given(st.lists(st.integers(-32_768, 32_767), max_size=50))
def test_samples_survive_base64(samples):
    text = base64.b64encode(np.array(samples, "<i2").tobytes()).decode()
    assert pcm_samples(text).tolist() == samples


# A take ----------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.lists(st.integers(1, 5_000), min_size=1, max_size=5))
def test_any_packets_give_the_same_captions(sizes):
    take, _ = take_of(in_packets(pcm(sound_of(TALK)), sizes))
    assert take.captions == Captions(tuple(SPOKEN.split("\n")))
    assert take.status == "Done."


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_any_rate_of_the_browser_is_what_resampling_the_whole_would_give(
    rate, tiny_model, speechlike
):
    sound = pcm(speechlike(1.5, rate=rate))
    take, _ = take_of(in_packets(sound, [rate // 10]), rate, model=tiny_model)
    events = recognizer(tiny_model).stream([sound], rate)
    assert take.captions.text == "\n".join(e.text for e in events if isinstance(e, Final)) != ""
    assert take.heard_s == pytest.approx(1.5)


def test_captions_grow_while_packets_come_and_the_end_is_told_last():
    _, states = take_of(in_packets(pcm(sound_of(TALK)), [1600]))
    shown = [captions.text for captions, _ in states]
    assert any(captions.tentative for captions, _ in states)
    assert shown[0] == "" and shown[-1] == SPOKEN
    assert [status for _, status in states if status] == ["Done."]


def test_a_muted_microphone_is_told_and_a_quiet_room_is_not():
    packet = np.zeros(RATE, "<i2")
    assert take_of([packet] * 4)[0].status == "Done. Only silence so far: is the microphone muted?"
    packet[::2] = round(2 * SILENCE_PEAK * 32_768)
    assert take_of([packet] * 4)[0].status == "Done."


def test_audio_that_got_lost_on_the_way_is_counted():
    take = LiveTake(recognizer(), RATE, lambda take: None)
    for begin in (0, 1_600, 8_000):
        take.accept(begin, np.ones(1_600, "<i2"))
    take.finish()
    take.run()
    assert take.status == "Done. 0.3 s were lost on the way from the browser."


# A machine that is too slow --------------------------------------------------------------------


def slow(**options):
    """A recogniser that computes twice as long as the sound lasts."""
    clock = Clock()
    model = Speller(clock=clock, cost_s=2.0)
    return {"model": model, "clock": clock, "max_lag_s": 0.5, **options}


def late_take(**options):
    """All packets wait when the take begins, as after a long step."""
    return take_of(in_packets(pcm(sound_of(TALK)), [1600]), **slow(**options))


def test_late_packets_are_taken_together_and_none_is_lost():
    take, _ = late_take()
    assert take.captions.text.split() == SPOKEN.split()
    assert take.heard_s == pytest.approx(len(sound_of(TALK)) / RATE)
    assert "left out" not in take.status


def test_a_stream_sees_that_packets_waited_for_it():
    """Given one by one, they would each be in time, however many wait: no policy would hold."""
    options = slow()
    take = LiveTake(recognizer(**options), RATE, lambda take: None)
    for i, packet in enumerate(in_packets(pcm(sound_of(TALK)), [1600])):
        take.accept(1600 * i, packet)
    take.finish()
    take.run()
    longest = max(size for sizes in options["model"].calls for size in sizes)
    assert longest > 2 * (SHORT.left_s + SHORT.chunk_s + SHORT.right_s) * RATE


def test_what_is_left_out_is_told():
    take, _ = late_take(late="drop")
    assert "It is too slow and left out" in take.status
    assert len(take.captions.text) < len(SPOKEN)


def test_being_late_is_an_error_in_the_widget_where_that_is_the_choice(monkeypatch):
    page = Page(monkeypatch, **slow(late="raise"))
    page.start()
    page.speak(pcm(sound_of(TALK)))
    page.end()
    assert "this machine is too slow" in page.widget.error
    assert {"release": "a"} in page.sent  # the microphone is let go of


# The widget ------------------------------------------------------------------------------------


def test_messages_become_captions(monkeypatch):
    page = Page(monkeypatch)
    page.start()
    for packet in in_packets(pcm(sound_of(TALK)), [1600]):
        page.speak(packet)
    page.end()
    assert page.widget.text == SPOKEN
    captions = {"count": 3, "lines": SPOKEN.split("\n"), "committed": "", "tentative": ""}
    assert page.widget.captions == captions
    assert (page.widget.status, page.widget.error) == ("Done.", "")
    assert page.widget.heard_s == int(len(sound_of(TALK)) / RATE)


def test_the_page_gets_the_last_lines_and_python_keeps_all(monkeypatch):
    page = Page(monkeypatch)
    page.start()
    page.speak(pcm(sound_of(("_b_o_m" + PAUSE) * (SHOWN_LINES + 3))))
    page.end()
    assert page.widget.text == "\n".join(["bom"] * (SHOWN_LINES + 3))
    assert page.widget.captions["count"] == SHOWN_LINES + 3
    assert page.widget.captions["lines"] == ["bom"] * SHOWN_LINES


def test_another_start_ends_the_take_before_and_begins_with_an_empty_page(monkeypatch):
    page = Page(monkeypatch)
    page.start("a")
    page.speak(pcm(sound_of("_b_o_m" + PAUSE)), "a")
    first = page.widget._take
    page.start("b")
    page.speak(pcm(sound_of("_s_i_m" + PAUSE)), "a")  # late, and from a page that was told
    page.speak(pcm(sound_of("_d_i_a" + PAUSE)), "b")
    page.end("b")
    assert (first.captions.text, page.widget.text) == ("bom", "dia")
    assert page.widget.captions["lines"] == ["dia"]
    assert page.sent == [{"release": "a"}, {"release": "b"}]


def test_stop_in_python_lets_go_of_the_microphone_and_keeps_what_was_said(monkeypatch):
    page = Page(monkeypatch)
    page.start()
    page.speak(pcm(sound_of("_b_o_m" + PAUSE)))
    page.widget.stop()
    page.widget._thread.join(30)
    assert page.sent == [{"release": "a"}] and page.widget.text == "bom"
    page.widget.stop()
    assert len(page.sent) == 1


def test_what_went_wrong_in_the_browser_is_the_error_until_the_next_start(monkeypatch):
    page = Page(monkeypatch)
    page.say("failed", reason="The browser did not allow the microphone.")
    assert page.widget.error == "The browser did not allow the microphone."
    page.start()
    page.end()
    assert page.widget.error == ""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_that_nobody_foresaw_is_shown_and_not_swallowed(monkeypatch):
    page = Page(monkeypatch)

    def broken(*_, **__):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(Speller, "log_probs", broken)
    page.start()
    page.speak(np.ones(RATE, "<i2"))
    page.end()
    assert page.widget.error == "out of luck" and page.sent == [{"release": "a"}]


def test_the_notebook_keeps_no_sound(monkeypatch):
    """Widget state is saved with a notebook: the sound is not a part of it."""
    page = Page(monkeypatch)
    before = page.widget.get_state()
    page.start()
    page.speak(pcm(sound_of(TALK)))
    page.end()
    after = page.widget.get_state()
    assert {k for k in after if after[k] != before[k]} == {"captions", "heard_s", "status"}


def test_sound_before_any_recording_is_left(monkeypatch):
    page = Page(monkeypatch)
    content = {"kind": "audio", "take": "", "begin": 0, "pcm": ""}
    page.widget._receive(None, content, [])  # not by a message: ipywidgets catches errors of those
    assert (page.widget.text, page.widget.error) == ("", "")


def test_a_closed_widget_ends_its_thread(monkeypatch):
    page = Page(monkeypatch)
    page.start()
    page.widget.close()
    page.widget._thread.join(30)
    assert not page.widget._thread.is_alive()


def test_a_model_that_is_missing_is_told_in_the_cell():
    with pytest.raises(ModelError, match="No model 'no-such-model'"):
        live_captions("no-such-model")


def test_choices_reach_the_stream(tiny_folder):
    policy = BufferedCTC(chunk_s=1.0)
    setup = live_captions(tiny_folder, policy, late="drop", device="cpu")._recognizer.setup
    assert (setup.policy, setup.late) == (policy, "drop")
    assert setup.clock is not None  # a live stream can be late


# The script ------------------------------------------------------------------------------------


def node(script):
    """What a script prints as JSON that has all functions of the page."""
    command = ["node", "--input-type=module", "-e", LiveCaptions._esm + script]
    out = subprocess.run(command, capture_output=True, timeout=60, text=True)
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout)


AUDIO_THREAD = """
const sent = [];
let Packets;
globalThis.AudioWorkletProcessor = class {
  port = { postMessage: (samples) => sent.push(samples && Array.from(samples)) };
};
globalThis.registerProcessor = (_, made) => (Packets = made);
(0, eval)(`(${worklet})()`); // as the browser gets it
const packets = new Packets({ processorOptions: { size: 300 } });
"""


@needs_node
def test_the_audio_thread_loses_no_sample_and_mixes_channels():
    """10 blocks of 128 frames are 4 packets of 300 and a rest of 80, sent when all is over."""
    out = node(
        AUDIO_THREAD
        + """
const block = (i, sign) => Float32Array.from({ length: 128 }, (_, t) => 128 * i + t + sign);
const open = [];
for (let i = 0; i < 10; i++) open.push(packets.process([[block(i, 1), block(i, -1)]]));
open.push(packets.process([[]])); // a source that has stopped has no channels
packets.port.onmessage({ data: "finish" });
open.push(packets.process([[block(10, 0)]]));
console.log(JSON.stringify({ sent, open }));
"""
    )
    *packets, last = out["sent"]
    assert last is None
    assert [len(packet) for packet in packets] == [300] * 4 + [80]
    assert [x for packet in packets for x in packet] == list(range(1280))
    assert out["open"] == [True] * 11 + [False]


@needs_node
def test_python_reads_the_samples_that_the_page_writes():
    samples = [0, 0.5, -0.5, 1, -1, 2, -2, 0.25]
    text = node(f"console.log(JSON.stringify(encodePcm(Float32Array.from({samples}))));")
    assert pcm_samples(text) / 32_767 == pytest.approx(np.clip(samples, -1, 1), abs=1 / 32_767)


@needs_node
def test_levels_are_decibels_of_full_scale():
    """20 log10 of the peak, from the floor of the meter."""
    levels = node(
        "console.log(JSON.stringify([[0, -1], [0.1, 0], [0, 0], []]"
        ".map((samples) => levelDb(Float32Array.from(samples)))));"
    )
    assert levels == pytest.approx([0, -20, -60, -60], abs=1e-4)


PAGE = """
const made = (tag) => ({
  tag, children: [], attributes: {}, classList: { add() {} },
  appendChild(child) { this.children.push(child); return child; },
  replaceChildren() { this.children = []; },
  setAttribute(name, value) { this.attributes[name] = value; },
});
globalThis.document = { createElement: made };
const state = {
  captions: { count: 0, lines: [], committed: "", tentative: "" },
  heard_s: 0, status: "Press start and speak.", error: "",
};
const sent = [], listeners = {};
const model = {
  get: (name) => state[name],
  send: (message) => sent.push(message),
  on: (name, listener) => (listeners[name] ??= []).push(listener),
};
const tell = (name, value) => {
  state[name] = value;
  (listeners[`change:${name}`] ?? []).forEach((listener) => listener());
};
const el = made("div");
render({ model, el });
const [button, meter, heard, status] = el.children[0].children;
const log = el.children[1].children[0];
const lines = () => log.children.map((p) => p.textContent);
"""


def page(script):
    return node(PAGE + script)


REFUSED = """
Object.defineProperty(globalThis, "navigator", { value: DEVICES, configurable: true });
button.onclick();
await new Promise((resolve) => setTimeout(resolve, 20));
console.log(JSON.stringify([status.textContent, sent, button.textContent, waits(button)]));
"""


@needs_node
@pytest.mark.parametrize(
    ("devices", "reason"),
    [
        ("{}", "needs a page on https or localhost"),
        ("NotAllowedError", "did not allow the microphone. Allow it in the address bar"),
        ("NotFoundError", "found no microphone"),
        ("NotReadableError", "in use by another program"),
        ("AbortError", "The microphone failed: oh"),
    ],
)
def test_why_there_is_no_microphone_is_told(devices, reason):
    if devices != "{}":
        error = f'Object.assign(new Error("oh"), {{ name: "{devices}" }})'
        devices = f"{{ mediaDevices: {{ getUserMedia: async () => {{ throw {error}; }} }} }}"
    shown, sent, button, waiting = page(REFUSED.replace("DEVICES", devices))
    assert reason in shown
    assert sent == [{"kind": "failed", "reason": shown}]
    assert (button, waiting) == ("● Start", False)  # it can be tried again


@needs_node
def test_lines_are_added_once_and_a_new_take_clears_them():
    """Python sends the last lines only: here two."""
    out = page(
        """
const seen = [];
for (const [count, lines] of [[1, ["a"]], [2, ["a", "b"]], [2, ["a", "b"]], [4, ["c", "d"]],
                              [0, []], [1, ["e"]]]) {
  const kept = log.children[0];
  tell("captions", { count, lines, committed: "x", tentative: "y" });
  seen.push([log.children.map((p) => p.textContent).join(""), kept === log.children[0]]);
}
console.log(JSON.stringify(seen));
"""
    )
    assert [text for text, _ in out] == ["a", "ab", "ab", "abcd", "", "e"]
    assert [same for _, same in out][1:4] == [True] * 3  # not drawn anew: it would be read again


MICROPHONE = """
const port = { postMessage: () => port.onmessage({ data: null }) };
const node = { port, connect: () => node };
const track = { stop() { track.stopped = true; } };
globalThis.AudioContext = class {
  sampleRate = 48000;
  audioWorklet = { addModule: async () => {} };
  createMediaStreamSource() { return node; }
  resume() {}
  close() { track.closed = true; }
};
globalThis.AudioWorkletNode = function () { return node; };
const getUserMedia = async () => ({ getTracks: () => [track] });
Object.defineProperty(globalThis, "navigator", { value: { mediaDevices: { getUserMedia } } });
const now = Date.now;
const click = async () => { button.onclick(); await new Promise((done) => setTimeout(done, 20)); };
await click();
const packet = () => node.port.onmessage({ data: new Float32Array(4800).fill(0.1) });
"""


@needs_node
def test_a_take_is_start_packets_in_a_row_and_stop():
    sent, button, level, stopped, closed = page(
        MICROPHONE
        + """
packet();
packet();
const seen = [button.textContent, meter.value];
await click();
console.log(JSON.stringify([sent, ...seen, track.stopped, track.closed]));
"""
    )
    assert [m["kind"] for m in sent] == ["start", "audio", "audio", "stop"]
    assert len({m["take"] for m in sent}) == 1
    assert sent[0]["sampling_rate"] == 48_000
    assert [m["begin"] for m in sent[1:3]] == [0, 4_800]
    assert len(pcm_samples(sent[1]["pcm"])) == 4_800
    assert (button, level) == ("■ Stop", pytest.approx(-20, abs=1e-3))
    assert stopped and closed


@needs_node
def test_python_can_let_go_of_the_microphone_of_one_take():
    before, after = page(
        MICROPHONE
        + """
const release = (id) => listeners["msg:custom"].forEach((listener) => listener({ release: id }));
release("of another page");
const before = track.stopped ?? false;
release(sent[0].take);
console.log(JSON.stringify([before, track.stopped]));
"""
    )
    assert (before, after) == (False, True)


@needs_node
def test_a_kernel_that_does_not_answer_is_told_until_it_does():
    shown = page(
        MICROPHONE
        + """
const shown = [];
for (const seconds of [1, 11, 11.1]) {
  Date.now = () => now() + 1000 * seconds;
  if (seconds === 11.1) tell("heard_s", 11);
  packet();
  shown.push(status.textContent);
}
console.log(JSON.stringify(shown));
"""
    )
    assert "does not answer" in shown[1]
    assert [shown[0], shown[2]] == ["Press start and speak."] * 2


@needs_node
def test_committed_and_tentative_words_differ_without_colour():
    """By slant and dots; a picture of the page is in the browser's test."""
    committed, tentative = page(
        """
tell("captions", { count: 0, lines: [], committed: "bom dia", tentative: "tud" });
const [a, , b] = el.children[1].children[1].children;
console.log(JSON.stringify([a, b].map((e) => [e.textContent, e.className])));
"""
    )
    assert committed == ["bom dia", "ptlab-committed"]
    assert tentative == ["tud", "ptlab-tentative"]
    rule = LiveCaptions._css.split(".ptlab-tentative")[1].split("}")[0]
    assert "italic" in rule and "underline dotted" in rule
    assert "color" not in LiveCaptions._css.replace("currentColor", "")
