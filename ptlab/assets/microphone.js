// What recorder.js and live.js share; the package puts it before each of them.
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

function element(parent, tag, properties = {}) {
  return parent.appendChild(Object.assign(document.createElement(tag), properties));
}

