// Records the microphone and sends it to Python as a WAV file: 16 kHz, mono, 16 bits.
const RATE = 16000; // Hz
const PART = 500000; // characters a message: notebook servers refuse very large ones

function encodeWav(samples) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const letters = (at, text) => [...text].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  letters(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  letters(8, "WAVEfmt ");
  view.setUint32(16, 16, true); // size of the format chunk
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, RATE, true);
  view.setUint32(28, 2 * RATE, true); // bytes a second
  view.setUint16(32, 2, true); // bytes a frame
  view.setUint16(34, 16, true); // bits a sample
  letters(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  writePcm(view, 44, samples);
  return new Blob([view], { type: "audio/wav" });
}

function toBase64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1]);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

// Text in custom messages, neither binary buffers nor a synced trait: every front end carries
// text, and what is not a trait is not saved in the notebook.
function send(model, text) {
  const count = Math.ceil(text.length / PART);
  for (let i = 0; i < count; i++) {
    model.send({ part: i, count, wav: text.slice(i * PART, (i + 1) * PART) });
  }
}

function render({ model, el }) {
  el.classList.add("ptlab-recorder");
  const button = element(el, "button", { textContent: "● Record", type: "button" });
  const status = element(el, "span", { textContent: model.get("status") });
  const player = element(el, "audio", { controls: true, hidden: true });
  status.setAttribute("role", "status"); // screen readers speak its changes
  player.setAttribute("aria-label", "Your recording");
  let stream = null;
  let take = null;

  const say = (text, error = "") => {
    status.textContent = error || text;
    model.set("status", text);
    model.set("error", error);
    model.save_changes();
  };
  const release = () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = take = null;
    button.textContent = "● Record";
    wait(button, false);
  };
  const run = async () => {
    wait(button);
    say("Asking for the microphone …");
    stream = await openMicrophone();
    take = record(stream, model.get("max_s"));
    button.textContent = "■ Stop";
    wait(button, false);
    say(`Recording, ${model.get("max_s")} s at most. Press stop when you are done.`);
    const blob = await take.done;
    release();
    const wav = encodeWav(await toSamples(blob, RATE));
    URL.revokeObjectURL(player.src);
    player.src = URL.createObjectURL(wav);
    player.hidden = false;
    say("Sending …");
    send(model, await toBase64(wav));
  };

  button.onclick = async () => {
    if (waits(button)) return;
    if (take) return take.stop();
    try {
      await run();
    } catch (error) {
      release();
      const reason = REASONS[error.name] ?? `The recording failed: ${error.message}`;
      say("", `${reason} Or upload a file.`);
    }
  };
  const show = () => (status.textContent = model.get("error") || model.get("status"));
  model.on("change:status", show);
  model.on("change:error", show);
  return release;
}

export default { render };
