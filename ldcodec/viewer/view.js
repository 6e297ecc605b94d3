"use strict";
const $ = id => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const stage = $("stage"), world = $("world");
const LEVELS = [1/64, 1/32, 1/16, 1/8, 1/6, 1/4, 1/3, 1/2, 2/3, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32];
const LARGEST = 32;
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function node(name, properties = {}, ...inner) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...inner);
  return made;
}

/* --- zoom and position -------------------------------------------------------------------------------------------- */

/* z: pixels of the screen for one of the picture; x, y: its upper left corner in CSS pixels of the stage. */
const place = {z: 1, x: 0, y: 0, fitted: true};

const ratio = () => devicePixelRatio || 1;
const size = () => ({width: data.width * place.z / ratio(), height: data.height * place.z / ratio()});
const least = () => Math.min(fitting(), 1);

function fitting() {
  const z = ratio() * Math.min(stage.clientWidth / data.width, stage.clientHeight / data.height);
  return z < 1 ? z : clamp(Math.floor(z), 1, 8);  // enlarge by whole numbers only, so that pixels stay squares
}

/* Keeps a picture that fills the stage free of gaps and centres a smaller one, along one axis. */
function held(start, length, room, origin) {
  const kept = length <= room ? (room - length) / 2 : clamp(start, room - length, 0);
  const grid = Number.isInteger(ratio()) ? 1 : ratio();  // align with pixels of the screen, wherever the stage is
  return Math.round((origin + kept) * grid) / grid - origin;
}

function draw() {
  const {width, height} = size();
  const box = stage.getBoundingClientRect();
  place.x = held(place.x, width, box.width, box.left + scrollX);
  place.y = held(place.y, height, box.height, box.top + scrollY);
  world.style.width = Math.ceil(64 * width) / 64 + "px";  // layout rounds down to 1/64 of a pixel
  world.style.height = Math.ceil(64 * height) / 64 + "px";
  world.style.left = place.x + "px";  // not a transform, which would not be aligned with pixels of the screen
  world.style.top = place.y + "px";
  stage.classList.toggle("sharp", place.z >= 1);
  const percent = 100 * place.z;
  $("zoom").value = (percent < 10 ? percent.toFixed(1) : Math.round(percent)) + " %";
  $("exact").setAttribute("aria-pressed", String(place.z === 1));
  $("fit").setAttribute("aria-pressed", String(place.fitted));
  drawBorder();
  drawMap();
}

function zoomTo(z, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const next = clamp(z, least(), LARGEST), change = next / place.z;
  place.x = x - (x - place.x) * change;
  place.y = y - (y - place.y) * change;
  place.z = next;
  place.fitted = false;
  draw();
}

const zoomIn = () => zoomTo(LEVELS.find(level => level > place.z * 1.001) ?? LARGEST);
const zoomOut = () => zoomTo(LEVELS.findLast(level => level < place.z * 0.999) ?? least());

function fit() {
  place.z = fitting();
  place.fitted = true;
  draw();
}

function move(x, y) {
  place.x += x;
  place.y += y;
  draw();
}

/* --- original and decoded picture --------------------------------------------------------------------------------- */

/* Left and right end of the visible part of the picture, in CSS pixels of the stage. */
const visible = () => [place.x, place.x + size().width].map(x => clamp(x, 0, stage.clientWidth));

const drawBorder = slider({
  border: $("border"),
  span: () => visible().map(x => x + stage.getBoundingClientRect().left),
  draw: at => {
    if (!data.original) return;
    const [left, right] = visible(), x = left + at * (right - left);
    $("border").hidden = $("before").hidden = $("tag-left").hidden = !$("compare").checked;
    $("border").style.left = x + "px";
    $("border").setAttribute("aria-valuetext", Math.round(100 * at) + " % original");
    $("before").style.clipPath = "inset(0 calc(100% - " + (x - place.x) + "px) 0 0)";
  },
});

/* --- settings ----------------------------------------------------------------------------------------------------- */

const pictures = data.choices.map(choice => {
  const alt = "Decoded picture, " + choice.text;
  const image = node("img", {alt, draggable: false, decoding: "sync", hidden: true, src: choice.src});
  $("shown").append(image);
  return image;
});
const chosen = name => document.querySelector("input[name=" + name + "]:checked")?.value;

function choose() {
  const wanted = choice => String(choice.realism) === chosen("realism") && String(choice.steps) === chosen("steps");
  const k = Math.max(0, data.choices.findIndex(wanted)), choice = data.choices[k];
  pictures.forEach((image, j) => { image.hidden = j !== k; });
  $("tag-right").textContent = choice.text;
  $("psnr").replaceChildren();
  if (choice.psnr !== null) $("psnr").append("PSNR ", node("b", {textContent: choice.psnr.toFixed(2)}), " dB");
}

function offer(group, name, texts) {
  for (const [value, text] of texts) {
    const [first, ...rest] = text.split(" ");
    const input = node("input", {type: "radio", name, value, onchange: choose});
    const face = node("span", {}, first);
    if (rest.join("")) face.append(node("small", {textContent: rest.join(" ")}));
    $(group).append(node("label", {className: "radio"}, input, face));
  }
  $(group).querySelector("input").checked = true;
}

if (data.choices.length > 1) {
  $("choosing").hidden = false;
  offer("realisms", "realism", new Map(data.choices.map(c => [String(c.realism), c.realismName])));
  offer("steps", "steps", new Map(data.choices.map(c => [String(c.steps), String(c.steps)])));
}

/* --- bits --------------------------------------------------------------------------------------------------------- */

const STOPS = [[13, 8, 66], [86, 15, 125], [161, 36, 116], [225, 83, 68], [250, 157, 58], [252, 253, 191]];
const bits = data.bits && new Uint16Array(Uint8Array.from(atob(data.bits.values), c => c.charCodeAt(0)).buffer);

function colour(share) {
  const spot = clamp(share, 0, 1) * (STOPS.length - 1), k = Math.min(Math.floor(spot), STOPS.length - 2);
  return STOPS[k].map((low, j) => Math.round(low + (STOPS[k + 1][j] - low) * (spot - k)));
}

function paint(canvas, width, height, share) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let k = 0; k < width * height; k++) image.data.set([...colour(share(k)), 255], 4 * k);
  context.putImageData(image, 0, 0);
}

function drawMap() {
  if (!bits) return;
  const unit = place.z / ratio(), style = $("map").style, side = data.bits.cell * unit;
  $("overlay").hidden = !$("bits").checked;
  style.left = -data.bits.left * unit + "px";
  style.top = -data.bits.top * unit + "px";
  style.width = data.bits.columns * side + "px";
  style.height = data.bits.rows * side + "px";
  style.opacity = $("strength").value / 100;
}

if (bits) {
  const {rows, columns, unit, high} = data.bits;
  $("spending").hidden = false;
  paint($("map"), columns, rows, k => bits[k] / unit / high);
  paint($("scale"), 256, 1, k => k / 255);
  for (const share of [0, 0.5, 1]) {
    const value = +(share * high).toPrecision(3);
    $("ticks").append(node("span", {textContent: (share === 1 ? "≥ " : "") + value}));
  }
  $("cells").textContent = data.reduced > 1 ? "pixels as shown here" : "pixels";
  $("bits").onchange = drawMap;
  $("strength").oninput = () => {
    $("bits").checked = true;
    drawMap();
  };
}

/* Shows position and bits of the pixel at a point of the stage. */
function read(x, y) {
  const column = Math.floor((x - place.x) * ratio() / place.z), row = Math.floor((y - place.y) * ratio() / place.z);
  if (column < 0 || row < 0 || column >= data.width || row >= data.height) {
    $("read").value = "";
    return;
  }
  let text = "x " + column + ", y " + row;
  if (bits) {
    const {left, top, cell, columns, unit} = data.bits;
    const k = Math.floor((row + top) / cell) * columns + Math.floor((column + left) / cell);
    text += " · " + (bits[k] / unit).toFixed(2) + " bits per pixel";
  }
  $("read").value = text;
}

/* --- pointers and wheel ------------------------------------------------------------------------------------------- */

const pointers = new Map();

function local(event) {
  const box = stage.getBoundingClientRect();
  return {x: event.clientX - box.left, y: event.clientY - box.top};
}

/* Middle and distance of two fingers. */
function pinch() {
  const [a, b] = [...pointers.values()];
  return {x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, gap: Math.hypot(a.x - b.x, a.y - b.y)};
}

stage.addEventListener("pointerdown", event => {
  if (event.button > 0) return;
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, local(event));
  stage.classList.add("moving");
});
stage.addEventListener("pointermove", event => {
  const now = local(event), before = pointers.get(event.pointerId);
  read(now.x, now.y);
  if (!before) return;
  if (pointers.size === 1) {
    move(now.x - before.x, now.y - before.y);
    pointers.set(event.pointerId, now);
    return;
  }
  const old = pinch();
  pointers.set(event.pointerId, now);
  const fresh = pinch();
  move(fresh.x - old.x, fresh.y - old.y);
  zoomTo(place.z * fresh.gap / Math.max(1, old.gap), fresh.x, fresh.y);
});
for (const name of ["pointerup", "pointercancel"]) {
  stage.addEventListener(name, event => {
    pointers.delete(event.pointerId);
    if (!pointers.size) stage.classList.remove("moving");
  });
}
stage.addEventListener("pointerleave", () => { $("read").value = ""; });
stage.addEventListener("wheel", event => {
  event.preventDefault();
  const spot = local(event), lines = event.deltaMode === 1 ? 16 : 1;
  zoomTo(place.z * Math.pow(2, -clamp(event.deltaY * lines, -240, 240) / 240), spot.x, spot.y);
}, {passive: false});
stage.addEventListener("dblclick", event => {
  const spot = local(event);
  if (place.z === 1) fit();
  else zoomTo(1, spot.x, spot.y);
});

/* --- keys and buttons --------------------------------------------------------------------------------------------- */

const STEP = 60;  // CSS pixels for each press of an arrow key
const ARROWS = {ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};
const KEYS = {
  "+": zoomIn,
  "=": zoomIn,
  "-": zoomOut,
  "−": zoomOut,
  "0": fit,
  "1": () => zoomTo(1),
  b: () => bits && toggle("bits"),
  o: () => data.original && toggle("compare"),
};

function toggle(id) {
  $(id).checked = !$(id).checked;
  draw();
}

stage.addEventListener("keydown", event => {
  if (!ARROWS[event.key]) return;
  move(...ARROWS[event.key].map(way => way * STEP));
  event.preventDefault();
});
addEventListener("keydown", event => {
  const act = KEYS[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  act();
  event.preventDefault();
});
$("in").onclick = zoomIn;
$("out").onclick = zoomOut;
$("fit").onclick = fit;
$("exact").onclick = () => zoomTo(1);
new ResizeObserver(() => place.fitted ? fit() : draw()).observe(stage);

/* --- texts -------------------------------------------------------------------------------------------------------- */

$("summary").textContent = data.summary;
for (const [name, text] of data.fields) {
  $("fields").append(node("dt", {textContent: name}), node("dd", {textContent: text}));
}
for (const text of data.notes) $("notes").append(node("p", {textContent: text}));
if (data.original) {
  $("comparing").hidden = false;
  $("before").append(node("img", {alt: "Original", draggable: false, decoding: "sync", src: data.original}));
  $("compare").onchange = draw;
}
choose();
fit();
