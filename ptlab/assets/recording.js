// What recorder.js and browser/page.js share; the package puts it before them.
REASONS.EmptyError =
  "Nothing was recorded. Speak for a second or more before you press stop.";

async function toSamples(blob, rate) {
  if (!blob.size) throw failure("EmptyError");
  // decodeAudioData resamples to the rate of its context.
  const context = new OfflineAudioContext(1, 1, rate);
  const sound = await context.decodeAudioData(await blob.arrayBuffer());
  const channels = [...Array(sound.numberOfChannels).keys()].map((i) => sound.getChannelData(i));
  return channels[0].map((_, t) => channels.reduce((sum, c) => sum + c[t], 0) / channels.length);
}

function record(stream, maxSeconds) {
  const recorder = new MediaRecorder(stream);
  const pieces = [];
  recorder.ondataavailable = (event) => pieces.push(event.data);
  const done = new Promise((resolve) => {
    recorder.onstop = () => resolve(new Blob(pieces, { type: recorder.mimeType }));
  });
  recorder.start();
  const timer = setTimeout(() => recorder.state === "recording" && recorder.stop(), 1000 * maxSeconds);
  return { done: done.finally(() => clearTimeout(timer)), stop: () => recorder.stop() };
}
