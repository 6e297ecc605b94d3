
"use strict";
const $ = id => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const stage = $("stage"), world = $("world"), border = $("border");
const LEVELS = [1/64, 1/32, 1/16, 1/8, 1/6, 1/4, 1/3, 1/2, 2/3, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32];
const LARGEST = 32;
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const node = (name, properties = {}, ...inner) => { const made = Object.assign(document.createElement(name), properties); made.append(...inner); return made; };

/* The picture's place: z pixels of the screen for one of the picture; x, y in CSS pixels of the stage. */
const place = {z: 1, x: 0, y: 0, fitted: true};
let at = 0.5;  /* of the part of the picture that can be seen */

const ratio = () => devicePixelRatio || 1;
const size = () => ({width: data.width * place.z / ratio(), height: data.height * place.z / ratio()});
function fitting() {
  const z = ratio() * Math.min(stage.clientWidth / data.width, stage.clientHeight / data.height);
  return z < 1 ? z : clamp(Math.floor(z), 1, 8);  /* enlarged by whole numbers alone, so that pixels stay squares */
}
const least = () => Math.min(fitting(), 1);

function held(start, length, room, origin) {  /* no gap beside a picture that fills the stage; a smaller one in the middle */
  const kept = length <= room ? (room - length) / 2 : clamp(start, room - length, 0);
  const grid = Number.isInteger(ratio()) ? 1 : ratio();  /* on the screen's own pixels, wherever the stage is */
  return Math.round((origin + kept) * grid) / grid - origin;
}

function draw() {
  const {width, height} = size();
  const box = stage.getBoundingClientRect();
  place.x = held(place.x, width, box.width, box.left + scrollX);
  place.y = held(place.y, height, box.height, box.top + scrollY);
  world.style.width = Math.ceil(64 * width) / 64 + "px";  /* layout knows 64ths and cuts off the rest */
  world.style.height = Math.ceil(64 * height) / 64 + "px";
  world.style.left = place.x + "px";  /* not a transform: layout alone is put on the screen's own pixels */
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
function fit() { place.z = fitting(); place.fitted = true; draw(); }
function move(x, y) { place.x += x; place.y += y; draw(); }

/* --- original and decoded picture -------------------------------------------------------------------------------- */

const visible = () => {
  const {width} = size();
  return [clamp(place.x, 0, stage.clientWidth), clamp(place.x + width, 0, stage.clientWidth)];
};
function drawBorder() {
  if (!data.original) return;
  const [left, right] = visible(), x = left + at * (right - left), on = $("compare").checked;
  border.hidden = $("before").hidden = $("tag-left").hidden = !on;
  border.style.left = x + "px";
  $("before").style.clipPath = "inset(0 calc(100% - " + (x - place.x) + "px) 0 0)";
  border.setAttribute("aria-valuenow", String(Math.round(100 * at)));
  border.setAttribute("aria-valuetext", Math.round(100 * at) + " % original");
}
function moveBorder(to) { at = clamp(to, 0, 1); drawBorder(); }

/* --- choices ----------------------------------------------------------------------------------------------------- */

const pictures = data.choices.map(choice => {
  const image = node("img", {alt: "Decoded picture, " + choice.text, draggable: false, decoding: "sync", hidden: true});
  image.src = choice.src;
  $("shown").append(image);
  return image;
});
const chosen = name => document.querySelector("input[name=" + name + "]:checked")?.value;
function choose() {
  const k = Math.max(0, data.choices.findIndex(c => String(c.realism) === chosen("realism") && String(c.steps) === chosen("steps")));
  pictures.forEach((image, j) => { image.hidden = j !== k; });
  const choice = data.choices[k];
  $("tag-right").textContent = choice.text;
  $("psnr").replaceChildren();
  if (choice.psnr !== null) $("psnr").append("PSNR ", node("b", {textContent: choice.psnr.toFixed(2)}), " dB");
}
function offer(group, name, texts) {
  for (const [value, text] of texts) {
    const [first, ...rest] = text.split(" "), input = node("input", {type: "radio", name, value});
    input.onchange = choose;
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

/* --- bits -------------------------------------------------------------------------------------------------------- */

const STOPS = [[13, 8, 66], [86, 15, 125], [161, 36, 116], [225, 83, 68], [250, 157, 58], [252, 253, 191]];
function colour(share) {
  const spot = clamp(share, 0, 1) * (STOPS.length - 1), k = Math.min(Math.floor(spot), STOPS.length - 2);
  return STOPS[k].map((low, j) => Math.round(low + (STOPS[k + 1][j] - low) * (spot - k)));
}
const bits = data.bits && new Uint16Array(Uint8Array.from(atob(data.bits.values), c => c.charCodeAt(0)).buffer);
function paint(canvas, width, height, share) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let k = 0; k < width * height; k++) image.data.set([...colour(share(k)), 255], 4 * k);
  context.putImageData(image, 0, 0);
}
function drawMap() {
  if (!bits) return;
  const unit = place.z / ratio(), canvas = $("map"), side = data.bits.cell * unit;
  $("overlay").hidden = !$("bits").checked;
  canvas.style.left = -data.bits.left * unit + "px";
  canvas.style.top = -data.bits.top * unit + "px";
  canvas.style.width = data.bits.columns * side + "px";
  canvas.style.height = data.bits.rows * side + "px";
  canvas.style.opacity = $("strength").value / 100;
}
if (bits) {
  $("spending").hidden = false;
  paint($("map"), data.bits.columns, data.bits.rows, k => bits[k] / data.bits.unit / data.bits.high);
  paint($("scale"), 256, 1, k => k / 255);
  const high = data.bits.high;
  for (const share of [0, 0.5, 1]) $("ticks").append(node("span", {textContent: (share === 1 ? "≥ " : "") + +(share * high).toPrecision(3)}));
  $("cells").textContent = data.reduced > 1 ? "pixels as shown here" : "pixels";
  $("bits").onchange = $("strength").oninput = () => { if (!$("bits").checked && document.activeElement === $("strength")) $("bits").checked = true; drawMap(); };
}
function read(x, y) {
  const column = Math.floor((x - place.x) * ratio() / place.z), row = Math.floor((y - place.y) * ratio() / place.z);
  if (column < 0 || row < 0 || column >= data.width || row >= data.height) { $("read").value = ""; return; }
  let text = "x " + column + ", y " + row;
  if (bits) {
    const k = Math.floor((row + data.bits.top) / data.bits.cell) * data.bits.columns + Math.floor((column + data.bits.left) / data.bits.cell);
    text += " · " + (bits[k] / data.bits.unit).toFixed(2) + " bits per pixel";
  }
  $("read").value = text;
}

/* --- pointers, wheel, keys --------------------------------------------------------------------------------------- */

const pointers = new Map();
const local = event => { const box = stage.getBoundingClientRect(); return {x: event.clientX - box.left, y: event.clientY - box.top}; };
const spread = () => { const [a, b] = [...pointers.values()]; return {x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, gap: Math.hypot(a.x - b.x, a.y - b.y)}; };
let dragsBorder = false;
stage.addEventListener("pointerdown", event => {
  if (event.button > 0) return;
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, local(event));
  dragsBorder = border.contains(event.target) && pointers.size === 1;
  stage.classList.toggle("moving", !dragsBorder);
});
stage.addEventListener("pointermove", event => {
  const now = local(event), before = pointers.get(event.pointerId);
  read(now.x, now.y);
  if (!before) return;
  if (dragsBorder) {
    const [left, right] = visible();
    moveBorder((now.x - left) / Math.max(1, right - left));
  } else if (pointers.size === 1) {
    move(now.x - before.x, now.y - before.y);
  } else {
    const old = spread();
    pointers.set(event.pointerId, now);
    const fresh = spread();
    move(fresh.x - old.x, fresh.y - old.y);
    zoomTo(place.z * fresh.gap / Math.max(1, old.gap), fresh.x, fresh.y);
  }
  pointers.set(event.pointerId, now);
});
for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, event => {
  pointers.delete(event.pointerId);
  if (!pointers.size) { dragsBorder = false; stage.classList.remove("moving"); }
});
stage.addEventListener("pointerleave", () => { $("read").value = ""; });
stage.addEventListener("wheel", event => {
  event.preventDefault();
  const spot = local(event), lines = event.deltaMode === 1 ? 16 : 1;
  zoomTo(place.z * Math.pow(2, -clamp(event.deltaY * lines, -240, 240) / 240), spot.x, spot.y);
}, {passive: false});
stage.addEventListener("dblclick", event => { const spot = local(event); if (place.z === 1) fit(); else zoomTo(1, spot.x, spot.y); });

const STEP = 60;  /* CSS pixels for an arrow key */
const ARROWS = {ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};
border.addEventListener("keydown", event => {
  const way = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1}[event.key];
  if (way) moveBorder(at + way * (event.shiftKey ? 0.1 : 0.02));
  else if (event.key === "Home" || event.key === "End") moveBorder(event.key === "Home" ? 0 : 1);
  else return;
  event.preventDefault();
  event.stopPropagation();
});
stage.addEventListener("keydown", event => {
  if (!ARROWS[event.key]) return;
  move(...ARROWS[event.key].map(way => way * STEP));
  event.preventDefault();
});
const toggle = id => { const box = $(id); box.checked = !box.checked; draw(); };
const KEYS = {"+": zoomIn, "=": zoomIn, "-": zoomOut, "−": zoomOut, "0": fit, "1": () => zoomTo(1), b: () => bits && toggle("bits"), o: () => data.original && toggle("compare")};
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
new ResizeObserver(() => { if (place.fitted) fit(); else draw(); }).observe(stage);

/* --- texts ------------------------------------------------------------------------------------------------------- */

$("summary").textContent = data.summary;
for (const [name, text] of data.fields) $("fields").append(node("dt", {textContent: name}), node("dd", {textContent: text}));
for (const text of data.notes) $("notes").append(node("p", {textContent: text}));
if (data.original) {
  $("comparing").hidden = false;
  $("before").append(node("img", {alt: "Original", draggable: false, decoding: "sync", src: data.original}));
  $("compare").onchange = draw;
}
choose();
fit();
