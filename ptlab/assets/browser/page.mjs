// The page of ptlab.browser_demo: sound to text, without leaving the browser. The package puts
// microphone.js and recording.js before this file, and fills the folder ort/ from npm.
import * as ort from "./ort/ort.wasm.bundle.min.mjs";
import { cutWindows, joinWindows, normalize, words } from "./ctc.mjs";

const MAX_RECORDING_S = 60;
const UNSURE = 0.5; // confidence under which a word is underlined with dots
const SILENCE_PEAK = 0.001; // as in ptlab.samples
const [START, STOP] = ["● Record", "■ Stop"];
REASONS.EncodingError =
  "The browser cannot read this file as sound. Try WAV, MP3, Ogg or FLAC, or convert it with ffmpeg.";
REASONS.ShortError = "The sound is too short to hold a word. Give half a second or more.";

const part = (id) => document.getElementById(id);
const say = (text) => (part("status").textContent = text);

async function fetched(name) {
  const reply = await fetch(name);
  if (!reply.ok) throw new Error(`the server says ${reply.status} for ${name}`);
  return reply;
}

async function load() {
  const facts = await (await fetched("facts.json")).json();
  const model = new Uint8Array(await (await fetched("model.onnx")).arrayBuffer());
  ort.env.wasm.proxy = true; // compute beside the page, which would stand still otherwise
  ort.env.wasm.numThreads = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  const start = performance.now();
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  const threads = ort.env.wasm.numThreads;
  const why = crossOriginIsolated ? "" : " (inside another page; in a tab of its own it may use more)";
  part("about").textContent =
    `Model: ${facts.name}, ${facts.precision}, ${(facts.size_bytes / 1e6).toFixed(1)} MB, ready in ` +
    `${((performance.now() - start) / 1000).toFixed(1)} s. onnxruntime-web ${ort.env.versions.web}, ` +
    `threads: ${threads}${why}.`;
  return { facts, session };
}

// Log-probabilities of one window, a row a frame.
async function logProbs({ facts, session }, samples) {
  const waveform = facts.normalizes ? normalize(samples) : samples;
  const shape = [1, waveform.length];
  const feeds = { input_values: new ort.Tensor("float32", waveform, shape) };
  if (session.inputNames.includes("attention_mask")) {
    const mask = new BigInt64Array(waveform.length).fill(1n);
    feeds.attention_mask = new ort.Tensor("int64", mask, shape);
  }
  const { data, dims } = (await session.run(feeds)).log_probs;
  return Array.from({ length: dims[1] }, (_, t) => data.subarray(t * dims[2], (t + 1) * dims[2]));
}

// Words of all windows so far are shown after each.
async function transcribe(model, samples) {
  const { facts } = model;
  if (samples.length < facts.receptive_field) throw failure("ShortError");
  const [duration, start] = [samples.length / facts.sampling_rate, performance.now()];
  const windows = cutWindows(samples.length, facts);
  let matrix = [];
  for (const [i, [first, last]] of windows.entries()) {
    say(windows.length > 1 ? `Transcribing part ${i + 1} of ${windows.length} …` : "Transcribing …");
    const next = await logProbs(model, samples.slice(first, last));
    matrix = joinWindows(matrix, next, first / facts.hop, facts);
    show(words(matrix, facts, duration));
  }
  const seconds = (performance.now() - start) / 1000;
  part("speed").textContent =
    `${duration.toFixed(1)} s of sound in ${seconds.toFixed(2)} s: ` +
    `${(duration / seconds).toFixed(1)} times as fast as it was spoken.`;
  const quiet = samples.every((x) => Math.abs(x) < SILENCE_PEAK);
  say(quiet ? "Done. The sound is silent: is the microphone muted?" : "Done.");
}

function show(found) {
  part("text").replaceChildren();
  part("words").replaceChildren();
  if (!found.length) part("text").textContent = "(no speech recognised)";
  for (const word of found) {
    const sure = `${Math.round(100 * word.confidence)} %`;
    const [from, to] = [word.start_s.toFixed(2), word.end_s.toFixed(2)];
    const className = word.confidence < UNSURE ? "unsure" : "";
    element(part("text"), "span", { textContent: word.text, className, title: `${from}-${to} s, ${sure}` });
    part("text").append(" ");
    const row = element(part("words"), "tr");
    [word.text, from, to, sure].forEach((textContent) => element(row, "td", { textContent }));
  }
}

function watchLevel(stream) {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(stream).connect(analyser);
  const block = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(block);
    part("meter").value = levelDb(block);
  }, 100);
  return () => {
    clearInterval(timer);
    context.close();
    part("meter").value = FLOOR_DB;
  };
}

let take = null; // the recording, while it lasts

async function microphoneBlob() {
  say("Asking for the microphone …");
  const stream = await openMicrophone();
  const unwatch = watchLevel(stream);
  take = record(stream, MAX_RECORDING_S);
  part("record").textContent = STOP;
  part("record").disabled = false;
  part("record").focus(); // which it lost while it was disabled
  say(`Recording, ${MAX_RECORDING_S} s at most. Press stop when you are done.`);
  return take.done.finally(() => {
    stream.getTracks().forEach((track) => track.stop());
    unwatch();
    take = null;
    part("record").textContent = START;
    part("record").disabled = true;
  });
}

// One sound from beginning to end; the controls wait until it is done.
async function hear(model, sound) {
  const [controls, used] = [[part("file"), part("record")], document.activeElement];
  controls.forEach((control) => (control.disabled = true));
  ["text", "words", "speed"].forEach((id) => part(id).replaceChildren());
  try {
    const blob = await sound();
    URL.revokeObjectURL(part("player").src);
    part("player").src = URL.createObjectURL(blob);
    part("player").hidden = false;
    await transcribe(model, await toSamples(blob, model.facts.sampling_rate));
  } catch (error) {
    say(REASONS[error.name] ?? `This went wrong: ${error.message}`);
  }
  controls.forEach((control) => (control.disabled = false));
  used?.focus();
}

try {
  say("Loading the model …");
  const model = await load();
  part("file").onchange = ({ target }) => target.files.length && hear(model, () => target.files[0]);
  part("record").onclick = () => (take ? take.stop() : hear(model, microphoneBlob));
  [part("file"), part("record")].forEach((control) => (control.disabled = false));
  say("Choose a sound file, or record.");
} catch (error) {
  say(`The model cannot be loaded: ${error.message}. Write the page again with ptlab.browser_demo.`);
}
