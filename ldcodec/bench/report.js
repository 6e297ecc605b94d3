"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const option = (value, text) => Object.assign(document.createElement("option"), {value, textContent: text});
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const measureOf = name => data.measures.find(m => m.name === name);

/* --- curves ------------------------------------------------------------------------------------------------------- */

const TICKS = [0.05, 0.1, 0.2, 0.3, 0.5, 1, 1.5, 2, 3, 5];
const SPARE = [0.3, 1.5];  // ticks that a phone has no room for

function traceOf(curve, measure) {
  const points = curve.points.filter(p => measure in p), own = curve.name === data.own;
  const shade = own ? colour("--ink") : curve.colour;
  return {
    name: curve.title,
    x: points.map(p => p.bpp),
    y: points.map(p => p[measure]),
    mode: curve.published ? "lines" : "lines+markers",
    line: {color: shade, width: own ? 3.5 : 1.8, dash: curve.published ? "dash" : "solid"},
    marker: {size: own ? 8 : 5},
    customdata: points.map(p => p.setting ?? "–"),
    hovertemplate: "<b>" + curve.title + "</b><br>%{x:.3f} bpp<br>%{y:.3f}<br>setting %{customdata}<extra></extra>",
  };
}

function draw() {
  const measure = $("measure").value, log = $("log").checked, small = innerWidth < 640;
  const traces = data.curves.filter(c => c.points.some(p => measure in p)).map(c => traceOf(c, measure));
  const [low, high] = data.limits;
  const seen = traces.flatMap(t => t.y.filter((_, k) => t.x[k] >= low && t.x[k] <= high));
  const top = Math.max(...seen), bottom = Math.min(...seen), pad = 0.04 * (top - bottom) + 1e-3;
  const ticks = TICKS.filter(v => v >= low && v <= high && !(small && SPARE.includes(v)));
  const ink = colour("--ink"), line = colour("--line");
  const axis = {gridcolor: line, zeroline: false, automargin: true};
  const names = 20 * traces.length;  // on a phone the legend stands below the plot, one name a line
  $("chart").style.height = small ? 390 + names + "px" : "";
  Plotly.react("chart", traces, {
    margin: {l: 50, r: 10, t: 10, b: small ? 80 + names : 45},
    height: small ? 390 + names : undefined,
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    font: {color: ink, size: 13},
    hovermode: "closest",
    hoverlabel: {bgcolor: colour("--panel"), bordercolor: line, font: {color: ink}},
    legend: {xanchor: "left", yanchor: "top", bgcolor: "transparent", ...(small ? {x: 0, y: -0.22} : {x: 1.01, y: 1})},
    xaxis: {
      ...axis,
      title: {text: "bits per pixel"},
      type: log ? "log" : "linear",
      range: log ? [Math.log10(low), Math.log10(high)] : [0, high],
      ...(log ? {tickvals: ticks, ticktext: ticks.map(String)} : {}),
    },
    yaxis: {
      ...axis,
      title: {text: measureOf(measure).label},
      range: seen.length ? [bottom - pad, top + pad] : undefined,
    },
  }, {responsive: true, displaylogo: false, displayModeBar: false});
}

/* --- deltas ------------------------------------------------------------------------------------------------------- */

function signed(value, places, unit = "") {
  return value === null ? "–" : (value > 0 ? "+" : "−") + Math.abs(value).toFixed(places) + unit;
}

function addDelta(row, delta, measure) {
  const rate = row.insertCell();
  rate.textContent = delta ? signed(delta.rate, 1, " %") : "–";
  if (delta && delta.rate !== null) rate.className = delta.rate < 0 ? "good" : "bad";
  row.insertCell().textContent = delta ? signed(delta.gain, measureOf(measure).places) : "–";
  const shared = delta && delta.low < delta.high;
  row.insertCell().textContent = shared ? [delta.low, delta.high].map(v => v.toFixed(Math.min(measureOf(measure).places, 3))).join(" … ") : "nothing";
}

function compare() {
  if (!$("anchor")) return;
  const anchor = $("anchor").value, measure = $("measure").value;
  $("gain").textContent = "BD-" + measureOf(measure).label.split(/ in |,| \(/)[0];
  $("deltas").replaceChildren();
  for (const curve of data.curves) {
    const row = $("deltas").insertRow();
    if (curve.name === data.own) row.className = "own";
    row.insertCell().textContent = curve.title;
    if (curve.name === anchor) {
      for (const text of ["anchor", "", ""]) row.insertCell().textContent = text;
    } else {
      const isWanted = d => d.anchor === anchor && d.test === curve.name && d.measure === measure;
      addDelta(row, data.deltas.find(isWanted), measure);
    }
  }
}

for (const m of data.measures) $("measure").append(option(m.name, m.label));
if ($("anchor")) {
  for (const c of data.curves) $("anchor").append(option(c.name, c.title));
  $("anchor").value = data.anchor;
  $("anchor").onchange = compare;
}
$("measure").onchange = () => {
  draw();
  compare();
};
$("log").onchange = draw;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
let pending;
addEventListener("resize", () => {
  clearTimeout(pending);
  pending = setTimeout(draw, 150);
});
draw();
compare();

/* --- pictures ----------------------------------------------------------------------------------------------------- */

const title = name => data.titles[name] ?? name;
const current = () => data.pictures[$("picture").value];
const shownBy = name => current().shown.find(s => s.codec === name) ?? current().shown[0];

function caption(shown) {
  const figures = shown.bpp === null ? "" : " · " + shown.bpp.toFixed(3) + " bpp · " + shown.psnr.toFixed(2) + " dB";
  return title(shown.codec) + figures;
}

/* Offers the codecs that have this picture, and keeps the choice if it is among them. */
function offer(list, wanted) {
  const names = current().shown.map(s => s.codec), kept = list.value || wanted;
  list.replaceChildren(...names.map(name => option(name, title(name))));
  list.value = names.includes(kept) ? kept : names[0];
}

function show() {
  const {width, height} = current(), left = shownBy($("left").value), right = shownBy($("right").value);
  $("inner").style.aspectRatio = width + " / " + height;
  $("inner").style.width = $("stage").classList.contains("exact") ? width + "px" : "100%";
  Object.assign($("above"), {src: left.src, alt: title(left.codec)});
  Object.assign($("below"), {src: right.src, alt: title(right.codec)});
  $("said-left").textContent = "← " + caption(left);
  $("said-right").textContent = caption(right) + " →";
}

function refresh() {
  offer($("left"), data.own);
  offer($("right"), current().shown.slice(1).map(s => s.codec).find(name => name !== data.own) ?? "original");
  show();
}

if ($("stage")) {
  data.pictures.forEach((picture, k) => $("picture").append(option(k, picture.name)));
  $("picture").onchange = refresh;
  $("left").onchange = show;
  $("right").onchange = show;
  $("exact").onclick = () => {
    $("exact").ariaPressed = String($("stage").classList.toggle("exact"));
    show();
  };
  const drawBorder = slider({
    border: $("border"),
    handle: $("inner"),
    span: () => {
      const {left, right} = $("inner").getBoundingClientRect();
      return [left, right];
    },
    draw: at => {
      $("border").style.left = 100 * at + "%";
      $("border").setAttribute("aria-valuetext", Math.round(100 * at) + " % of the left picture");
      $("above").style.clipPath = "inset(0 " + 100 * (1 - at) + "% 0 0)";
    },
  });
  drawBorder();
  refresh();
}
