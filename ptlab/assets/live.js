// Streams the microphone to Python, packet by packet, and shows the captions that come back.
const PACKET_S = 0.1; // what a sound card gives at once, about
const PATIENCE_MS = 10000; // without news from Python, before that is told
const [START, STOP] = ["● Start", "■ Stop"];

// Runs in the browser's audio thread: blocks of 128 frames to mono packets, the last one shorter.
function worklet() {
  class Packets extends AudioWorkletProcessor {
    constructor({ processorOptions }) {
      super();
      this.packet = new Float32Array(processorOptions.size);
      this.filled = 0;
      this.open = true;
      this.port.onmessage = () => this.finish();
    }

    process([channels]) {
      for (let t = 0; this.open && t < (channels[0]?.length ?? 0); t++) {
        let sum = 0;
        for (const channel of channels) sum += channel[t];
        this.packet[this.filled++] = sum / channels.length;
        if (this.filled === this.packet.length) this.send();
      }
      return this.open;
    }

    send() {
      if (this.filled) this.port.postMessage(this.packet.slice(0, this.filled));
      this.filled = 0;
    }

    finish() {
      this.send();
      this.port.postMessage(null); // no more will come
      this.open = false;
    }
  }
  registerProcessor("ptlab-packets", Packets);
}

async function packetNode(context, stream) {
  const code = new Blob([`(${worklet})()`], { type: "text/javascript" });
  const url = URL.createObjectURL(code);
  await context.audioWorklet.addModule(url).finally(() => URL.revokeObjectURL(url));
  const size = Math.round(PACKET_S * context.sampleRate);
  const node = new AudioWorkletNode(context, "ptlab-packets", { processorOptions: { size } });
  // Browsers run only what leads to the loudspeaker; the node itself gives silence.
  context.createMediaStreamSource(stream).connect(node).connect(context.destination);
  return node;
}

// Text, not binary buffers: every front end carries it.
function encodePcm(samples) {
  const view = new DataView(new ArrayBuffer(2 * samples.length));
  writePcm(view, 0, samples);
  return btoa(String.fromCharCode(...new Uint8Array(view.buffer)));
}

// Lines are only added, so that a screen reader speaks each of them once.
function addLines(log, shown, { count, lines }) {
  if (count < shown) log.replaceChildren();
  const added = count < shown ? count : count - shown;
  lines.slice(Math.max(0, lines.length - added)).forEach((line) => element(log, "p", { textContent: line }));
  return count;
}

function layOut(el) {
  el.classList.add("ptlab-live");
  const bar = element(el, "div", { className: "ptlab-live-bar" });
  const button = element(bar, "button", { textContent: START, type: "button" });
  const meter = element(bar, "meter", { min: FLOOR_DB, max: 0, value: FLOOR_DB });
  const heard = element(bar, "span");
  const status = element(bar, "span");
  const text = element(el, "div", { className: "ptlab-live-text", lang: "pt", tabIndex: 0 });
  const log = element(text, "div");
  const line = element(text, "p");
  const committed = element(line, "span", { className: "ptlab-committed" });
  element(line, "span", { textContent: " " });
  const tentative = element(line, "span", { className: "ptlab-tentative" });
  const legend = element(el, "p", { className: "ptlab-live-legend" });
  element(legend, "span", { textContent: "Words in upright letters stay; " });
  element(legend, "span", { className: "ptlab-tentative", textContent: "slanted and dotted" });
  element(legend, "span", { textContent: " ones may still change." });
  meter.setAttribute("aria-label", "Level of the microphone");
  text.setAttribute("role", "region"); // which the keyboard can scroll
  text.setAttribute("aria-label", "Text of the captions");
  status.setAttribute("role", "status"); // screen readers speak its changes
  log.setAttribute("role", "log");
  log.setAttribute("aria-label", "Captions");
  return { button, meter, heard, status, text, log, committed, tentative };
}

function render({ model, el }) {
  const page = layOut(el);
  let take = null; // the recording of this view, while it lasts
  let local = ""; // status of this side, which goes before that of Python
  let shown = 0; // lines
  let news = 0; // when Python last told anything, in milliseconds

  const show = () => {
    const { text, log, committed, tentative } = page;
    const captions = model.get("captions");
    const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 40; // else one reads back
    shown = addLines(log, shown, captions);
    committed.textContent = captions.committed;
    tentative.textContent = captions.tentative;
    if (atEnd) text.scrollTop = text.scrollHeight;
    page.heard.textContent = `${model.get("heard_s")} s heard`;
    page.status.textContent = local || model.get("error") || model.get("status");
  };
  const release = () => {
    take?.stream?.getTracks().forEach((track) => track.stop());
    take?.context?.close();
    take = null;
    page.button.textContent = START;
    wait(page.button, false);
    page.meter.value = FLOOR_DB;
  };
  const fail = (reason) => {
    release();
    local = reason;
    model.send({ kind: "failed", reason });
    show();
  };
  const send = (mine, samples) => {
    page.meter.value = levelDb(samples);
    model.send({ kind: "audio", take: mine.id, begin: mine.sent, pcm: encodePcm(samples) });
    mine.sent += samples.length;
    const late = Date.now() - news > PATIENCE_MS;
    const told = late ? "The kernel does not answer: is it busy with a cell, or was it restarted?" : "";
    if (told !== local) {
      local = told;
      show();
    }
  };
  const start = async () => {
    const mine = (take = { id: `${Date.now()}-${Math.random()}`, sent: 0 });
    wait(page.button);
    local = "Asking for the microphone …";
    show();
    mine.stream = await openMicrophone();
    if (take !== mine) return mine.stream.getTracks().forEach((track) => track.stop());
    mine.context = new AudioContext(); // at the browser's own rate: Python resamples
    mine.node = await packetNode(mine.context, mine.stream);
    await mine.context.resume();
    mine.end = () => {
      if (take !== mine) return;
      model.send({ kind: "stop", take: mine.id });
      release();
    };
    local = "";
    news = Date.now();
    model.send({ kind: "start", take: mine.id, sampling_rate: mine.context.sampleRate });
    mine.node.port.onmessage = ({ data }) => (data ? send(mine, data) : mine.end());
    mine.stream.getTracks().forEach((track) => (track.onended = stop)); // it was unplugged
    page.button.textContent = STOP;
    wait(page.button, false);
    show();
  };
  const stop = () => {
    if (!take?.end) return;
    wait(page.button);
    setTimeout(take.end, 1000); // should the audio thread stand still
    take.node.port.postMessage("finish"); // the last, shorter packet first
  };

  page.button.onclick = () => {
    if (waits(page.button)) return;
    if (take) return stop();
    start().catch((e) => fail(REASONS[e.name] ?? `The microphone failed: ${e.message}`));
  };
  model.on("change:heard_s", () => ([news, local] = [Date.now(), ""]));
  ["captions", "heard_s", "status", "error"].forEach((name) => model.on(`change:${name}`, show));
  model.on("msg:custom", ({ release: id }) => id && id === take?.id && release());
  show();
  return () => {
    take?.end?.();
    release();
  };
}

export default { render };
