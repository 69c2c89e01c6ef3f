// Points that are sounds: a click asks Python for one and plays it. For the keyboard the map is one
// stop of Tab; arrows walk over its points from left to right, Enter or Space plays.
const SVG = "http://www.w3.org/2000/svg";
const SHAPES = [
  "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0", // circle
  "M-4.5,-4.5h9v9h-9z", // square
  "M0,-6L5.5,4.5H-5.5z", // triangle
  "M0,-6L6,0L0,6L-6,0z", // diamond
  "M0,6L5.5,-4.5H-5.5z", // triangle that points down
  "M-2,-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z", // cross
  "M-6,0L4.5,-5.5V5.5z", // triangle that points left
  "M6,0L-4.5,-5.5V5.5z", // triangle that points right
];
const FILLS = ["#000", "#777", "#fff"];
const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

function mark(style) {
  const shape = document.createElementNS(SVG, "path");
  shape.setAttribute("d", SHAPES[style % SHAPES.length]);
  shape.setAttribute("fill", FILLS[Math.floor(style / SHAPES.length) % FILLS.length]);
  return shape;
}

function point({ x, y, label, title }, style) {
  const shape = mark(style);
  shape.setAttribute("transform", `translate(${20 + 560 * x},${380 - 360 * y})`);
  shape.setAttribute("tabindex", "-1");
  shape.setAttribute("role", "button");
  shape.setAttribute("aria-label", `${label}: ${title}`);
  const tip = document.createElementNS(SVG, "title");
  tip.textContent = `${label}: ${title}`;
  shape.append(tip);
  return shape;
}

// What each shape stands for.
function legend(labels) {
  const list = document.createElement("ul");
  labels.forEach((label, style) => {
    const item = document.createElement("li");
    const icon = document.createElementNS(SVG, "svg");
    icon.setAttribute("viewBox", "-8 -8 16 16");
    icon.setAttribute("aria-hidden", "true");
    icon.append(mark(style));
    item.append(icon, label);
    list.append(item);
  });
  return list;
}

function render({ model, el }) {
  el.classList.add("ptlab-map");
  const points = model.get("points");
  const labels = [...new Set(points.map((p) => p.label))];
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 600 400");
  svg.setAttribute("role", "group");
  svg.setAttribute("aria-label", `Map of ${points.length} sounds`);
  svg.setAttribute("data-lm-suppress-shortcuts", "true"); // else arrows leave JupyterLab's cell
  const said = document.createElement("div");
  said.setAttribute("aria-live", "polite");
  said.textContent = "Click a point, or go there with Tab and the arrow keys and press Enter, to hear it.";
  const player = document.createElement("audio");
  player.setAttribute("aria-label", "The chosen sound");
  player.controls = true;

  const shapes = points.map((p) => point(p, labels.indexOf(p.label)));
  const walk = [...shapes.keys()].sort((a, b) => points[a].x - points[b].x);
  const ask = (i) => {
    shapes.forEach((shape, j) => shape.classList.toggle("chosen", i === j));
    said.textContent = `${points[i].label}: ${points[i].title}`;
    model.send({ clip: i });
  };
  const press = (event, i) => {
    const step = STEPS[event.key];
    if (step) shapes[walk.at((walk.indexOf(i) + step) % walk.length)].focus();
    else if (event.key === "Enter" || event.key === " ") ask(i);
    else return;
    event.preventDefault(); // of the page, which would scroll
  };
  shapes.forEach((shape, i) => {
    shape.addEventListener("click", () => ask(i));
    shape.addEventListener("keydown", (event) => press(event, i));
    shape.addEventListener("focus", () => {
      shapes.forEach((other) => other.setAttribute("tabindex", other === shape ? "0" : "-1"));
      said.textContent = `${points[i].label}: ${points[i].title}`;
    });
  });
  shapes[walk[0]]?.setAttribute("tabindex", "0");
  svg.append(...shapes);

  const play = (content, buffers) => {
    if (content.error) {
      said.textContent = content.error;
      return;
    }
    URL.revokeObjectURL(player.src);
    player.src = URL.createObjectURL(new Blob([buffers[0]], { type: "audio/wav" }));
    player.play();
  };
  model.on("msg:custom", play);
  el.append(legend(labels), svg, said, player);
  return () => model.off("msg:custom", play);
}

export default { render };
