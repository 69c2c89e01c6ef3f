// What ptlab does before and after the network, under the same names: normalize of audio.py, and
// the rules of windows.py, ctc.py and confidence.py. Arrays in, arrays out, and nothing else.
// A matrix is an array of rows, one a frame: log-probabilities by token.
const [WINDOW_S, OVERLAP_S] = [20, 4]; // as in ptlab.Transcriber
const CALM_FRAMES = 9; // over which two windows must be sure of silence where they are joined
const [LEAD_FRAMES, TAIL_FRAMES] = [1, 4]; // what a word takes of the gaps around it
const SPACES = ["|", " "];
const SPECIAL = ["<pad>", "<s>", "</s>", "[PAD]"];
const SCORES = {
  max_prob: (probs) => (Math.max(...probs) - 1 / probs.length) / (1 - 1 / probs.length),
  tsallis(probs, alpha) {
    const entropy = (sum(probs.map((p) => p ** alpha)) - 1) / (1 - alpha);
    const floor = Math.exp(-(probs.length ** (1 - alpha) - 1) / (1 - alpha));
    return Math.min(1, Math.max(0, (Math.exp(-entropy) - floor) / (1 - floor)));
  },
};
const AGGREGATES = {
  min: (values) => Math.min(...values),
  mean: (values) => mean(values),
  prod: (values) => values.reduce((product, value) => product * value, 1),
};
const RAW = {
  words: { scores: [0, 1], probabilities: [0, 1], method: "tsallis", alpha: 1 / 3, aggregate: "min", path: 0 },
  offset_s: 0,
};

const sum = (values) => values.reduce((total, value) => total + value, 0);
const mean = (values) => sum(values) / values.length;
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function argmax(values) {
  return values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
}

// Zero mean and unit variance.
export function normalize(waveform) {
  const middle = mean(waveform);
  const variance = waveform.reduce((total, x) => total + (x - middle) ** 2, 0) / waveform.length;
  return waveform.map((x) => (x - middle) / Math.sqrt(variance + 1e-7));
}

// First and last sample of the windows of a recording, on whole hops.
export function cutWindows(samples, { hop, sampling_rate }) {
  const whole = (seconds) => Math.floor((seconds * sampling_rate) / hop) * hop;
  const [length, step] = [whole(WINDOW_S), whole(WINDOW_S) - whole(OVERLAP_S)];
  const windows = [];
  let start = 0;
  for (; samples - start > length; start += step) windows.push([start, start + length]);
  return [...windows, [start, samples]];
}

// The rows of all windows so far and those of the next one, which begins at the row `begin`.
export function joinWindows(left, right, begin, facts) {
  if (!left.length) return right;
  const shared = left.length - begin;
  const margin = Math.floor(shared / 4);
  const calm = [];
  for (let t = margin; t < Math.max(margin + 1, shared - margin); t++) {
    calm.push(quiet(left[begin + t], facts) + quiet(right[t], facts));
  }
  const reach = (CALM_FRAMES - 1) / 2;
  const around = calm.map((_, t) => {
    let total = 0;
    for (let k = t - reach; k <= t + reach; k++) total += calm[clamp(k, 0, calm.length - 1)];
    return total;
  });
  const seam = margin + argmax(around);
  return [...left.slice(0, begin + seam), ...right.slice(seam)];
}

// Log-probability of a blank or a space.
function quiet(row, { vocabulary, blank, word_delimiter }) {
  const space = vocabulary.indexOf(word_delimiter);
  return space < 0 ? row[blank] : Math.log(Math.exp(row[blank]) + Math.exp(row[space]));
}

// The greedy path: the best token of every frame, repeats merged, then blanks dropped.
export function greedyRuns(matrix, blank) {
  const runs = [];
  let previous = -1;
  matrix.forEach((row, t) => {
    const token = argmax(row);
    if (token !== previous) runs.push({ token, first: t, last: t });
    runs.at(-1).last = t + 1;
    previous = token;
  });
  return runs.filter(({ token }) => token !== blank);
}

// The runs of each word.
function groups(runs, vocabulary) {
  const found = [[]];
  for (const run of runs) {
    if (SPACES.includes(vocabulary[run.token])) found.push([]);
    else if (!SPECIAL.includes(vocabulary[run.token])) found.at(-1).push(run);
  }
  return found.filter((group) => group.length);
}

// Words with their times in seconds and their confidence; facts.calibration may be null.
export function words(matrix, facts, duration_s) {
  const { vocabulary, blank, hop, receptive_field, sampling_rate } = facts;
  const fitted = { ...RAW, ...facts.calibration };
  const found = groups(greedyRuns(matrix, blank), vocabulary);
  const ends = found.map((runs) => [runs[0].first, runs.at(-1).last]);
  const gap = (i) => Math.floor((ends[i][1] + ends[i + 1][0] + 1) / 2); // its middle
  const second = (frame) => {
    const time = (frame * hop + (receptive_field - hop) / 2) / sampling_rate;
    return clamp(time + fitted.offset_s, 0, duration_s);
  };
  const sure = confidences(matrix, found, ends, fitted.words);
  return found.map((runs, i) => {
    const left = i ? gap(i - 1) : 0;
    const right = i + 1 < found.length ? gap(i) : ends[i][1] + TAIL_FRAMES;
    return {
      text: runs.map((run) => vocabulary[run.token]).join(""),
      start_s: second(Math.max(left, ends[i][0] - LEAD_FRAMES)),
      end_s: second(Math.min(right, ends[i][1] + TAIL_FRAMES)),
      confidence: sure[i],
    };
  });
}

// A word is as sure as its letters and as the path over it and the gaps beside it.
function confidences(matrix, found, ends, how) {
  const score = (row) => SCORES[how.method](Array.from(row, Math.exp), how.alpha);
  const letter = (run) => mean(matrix.slice(run.first, run.last).map(score));
  const best = matrix.map((row) => row[argmax(row)]);
  return found.map((runs, i) => {
    const begin = i ? ends[i - 1][1] : 0;
    const end = i + 1 < found.length ? ends[i + 1][0] : matrix.length;
    const path = Math.exp(sum(best.slice(begin, end)));
    return interpolate(AGGREGATES[how.aggregate](runs.map(letter)) * path ** how.path, how);
  });
}

function interpolate(score, { scores, probabilities }) {
  const next = scores.findIndex((x) => x > score);
  if (next <= 0) return next ? probabilities.at(-1) : probabilities[0];
  const share = (score - scores[next - 1]) / (scores[next] - scores[next - 1]);
  return probabilities[next - 1] + share * (probabilities[next] - probabilities[next - 1]);
}
