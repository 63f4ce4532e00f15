// How one question is drawn, closed and open, and how its traces are unpacked. Texts go in as texts; only traces
// are HTML, which was escaped where it was made.

const RIGHT = 0.5; // as in agreement.py
const at = (id) => document.getElementById(id);

const make = (tag, name, ...inside) => {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...inside.filter((one) => one !== null));
  return element;
};

// What the page keeps compressed, as base64 of zlib.
const unpack = async (id) => {
  const bytes = Uint8Array.from(atob(at(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
};

const sign = (value) => (value === 1 ? "✓" : value === 0 ? "✗" : `${Math.round(100 * value)}%`);
const kind = (value) => (value === 1 ? "rp-right" : value === 0 ? "rp-wrong" : "rp-between");

const pictures = (item) => {
  if (item.pictures === null) return make("div", "lc-missing", "left out of this page");
  if (!item.pictures.length) return make("div", "lc-missing", "no picture");
  return make("div", "rp-pictures", ...item.pictures.map((number) => {
    const image = make("img");
    image.src = at(`picture-${number}`).textContent;
    image.alt = `picture of ${item.id}`;
    return image;
  }));
};

const options = (item) => {
  if (!item.options.length) return null;
  const list = make("ol", "lc-options", ...item.options.map((option, number) =>
    make("li", String.fromCharCode(65 + number) === item.answer ? "rp-option" : "", option)));
  list.type = "A";
  return list;
};

const opened = new Map();
const showTrace = async (item, answer, called, button, place) => {
  const old = place.dataset.key;
  place.replaceChildren();
  place.dataset.key = "";
  for (const other of place.parentElement.querySelectorAll("button[aria-expanded=true]")) other.setAttribute("aria-expanded", "false");
  if (old === answer.key) return;
  button.setAttribute("aria-expanded", "true");
  place.dataset.key = answer.key;
  if (!opened.has(item.number)) opened.set(item.number, unpack(`block-${item.number}`));
  const traces = await opened.get(item.number);
  if (place.dataset.key !== answer.key) return;
  place.innerHTML = traces[answer.key];
  place.prepend(make("h3", "", called));
  place.scrollIntoView();
};

// The name of a setting, which opens its trace if the page has it.
const opener = (item, answer, called, place) => {
  if (item.pictures === null || answer.failure !== undefined) return called;
  const button = make("button", "", called);
  button.type = "button";
  button.title = "Show the trace";
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => showTrace(item, answer, called, button, place));
  return button;
};

const answerRow = (item, answer, name, place) => {
  const called = item.by.get(name).length > 1 ? `${name}, seed ${answer.seed}` : name;
  const told = answer.failure ?? answer.conclusion ?? "no conclusion";
  const missing = answer.failure !== undefined || answer.conclusion === undefined;
  const said = answer.said && answer.said !== answer.conclusion ? make("small", "", `read as ${answer.said}`) : null;
  const reason = answer.reason && !answer.failure ? make("small", "", answer.reason) : null;
  return make("tr", "",
    make("th", "", opener(item, answer, called, place)),
    make("td", kind(answer.value), sign(answer.value)),
    make("td", missing ? "lc-none" : "rp-conclusion", told, said),
    make("td", "", answer.by, reason));
};

const questionBody = (item, nameOf) => {
  const place = make("div", "rp-trace");
  const head = make("tr", "", ...["method", "score", "conclusion", "settled by"].map((text) => make("th", "", text)));
  const rows = item.answers.map((answer) => answerRow(item, answer, nameOf(answer), place));
  const table = make("table", "rp-answers", make("thead", "", head), make("tbody", "", ...rows));
  const reference = make("p", "lc-reference", make("span", "", "Reference"), item.answer ?? "none");
  const asked = make("div", "rp-asked", make("p", "rp-words", item.text), options(item), reference);
  return make("div", "rp-body", make("div", "rp-two", pictures(item), asked), make("div", "rp-scroll", table), place);
};

// `told` are words beside the id, `scores` pairs of a method's name and its mean score.
const question = (item, told, scores, nameOf) => {
  const top = make("span", "rp-top", make("b", "", item.id), ...told.filter(Boolean).map((text) => make("span", "", text)));
  const chips = make("span", "rp-chips", ...scores.map(([name, value]) => make("span", kind(value), `${sign(value)} ${name}`)));
  const element = make("details", "rp-entry", make("summary", "", top, make("span", "rp-clipped", item.text), chips));
  element.addEventListener("toggle", () => {
    if (element.open && element.children.length === 1) element.append(questionBody(item, nameOf));
  });
  return element;
};
