// Points that are sounds: a click, or Enter on a focused point, asks Python for one and plays it.
const SVG = "http://www.w3.org/2000/svg";
const SHAPES = {
  circle: "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0",
  square: "M-4.5,-4.5h9v9h-9z",
  triangle: "M0,-6L5.5,4.5H-5.5z",
  diamond: "M0,-6L6,0L0,6L-6,0z",
};
const FILLS = ["#111", "#777", "#ccc", "#fff"];

function point(model, i, style) {
  const { x, y, label, title } = model.get("points")[i];
  const shape = document.createElementNS(SVG, "path");
  const names = Object.keys(SHAPES);
  shape.setAttribute("d", SHAPES[names[style % names.length]]);
  shape.setAttribute("fill", FILLS[Math.floor(style / names.length) % FILLS.length]);
  shape.setAttribute("transform", `translate(${20 + 560 * x},${380 - 360 * y})`);
  shape.setAttribute("tabindex", "0");
  shape.setAttribute("role", "button");
  shape.setAttribute("aria-label", `${label}: ${title}`);
  const tip = document.createElementNS(SVG, "title");
  tip.textContent = `${label}: ${title}`;
  shape.append(tip);
  return shape;
}

function render({ model, el }) {
  el.classList.add("ptlab-map");
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 600 400");
  const said = document.createElement("div");
  said.setAttribute("aria-live", "polite");
  said.textContent = "Click a point to hear it.";
  const player = document.createElement("audio");
  player.controls = true;
  const labels = [...new Set(model.get("points").map((p) => p.label))];
  model.get("points").forEach((p, i) => {
    const shape = point(model, i, labels.indexOf(p.label));
    const ask = () => {
      svg.querySelectorAll(".chosen").forEach((other) => other.classList.remove("chosen"));
      shape.classList.add("chosen");
      said.textContent = `${p.label}: ${p.title}`;
      model.send({ clip: i });
    };
    shape.addEventListener("click", ask);
    shape.addEventListener("keydown", (event) => event.key === "Enter" && ask());
    svg.append(shape);
  });
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
  el.append(svg, said, player);
  return () => model.off("msg:custom", play);
}

export default { render };
