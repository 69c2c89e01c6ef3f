// What recorder.js, live.js and browser/page.js share; the package puts it before each of them.
const FLOOR_DB = -60; // left end of the level meter
const REASONS = {
  NotAllowedError: "The browser did not allow the microphone. Allow it in the address bar and try again.",
  NotFoundError: "The browser found no microphone. Connect one and try again.",
  NotReadableError: "The microphone is in use by another program. Close that one and try again.",
  InsecureError: "The microphone needs a page on https or localhost. Open the notebook that way.",
};

function failure(name) {
  return Object.assign(new Error(REASONS[name]), { name });
}

function openMicrophone() {
  if (!navigator.mediaDevices?.getUserMedia) throw failure("InsecureError");
  // These are made for calls: they take speech away and change its level; the model has its own.
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  return navigator.mediaDevices.getUserMedia({ audio });
}

// Samples from -1 to 1 as 16-bit little-endian PCM.
function writePcm(view, at, samples) {
  samples.forEach((x, i) => {
    const clipped = Math.max(-1, Math.min(1, x));
    view.setInt16(at + 2 * i, Math.round(clipped * 32767), true);
  });
}

function levelDb(samples) {
  const peak = samples.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  return Math.max(FLOOR_DB, 20 * Math.log10(peak));
}

function element(parent, tag, properties = {}) {
  return parent.appendChild(Object.assign(document.createElement(tag), properties));
}

// A disabled button would lose the keyboard's focus; one that waits keeps it, and takes no click.
function wait(button, waiting = true) {
  button.ariaDisabled = String(waiting);
}

function waits(button) {
  return button.ariaDisabled === "true";
}

