// The questions of a report: the list with its filters, a page at a time, and each question with its traces.
// Texts are inserted as text; only traces are HTML, which was escaped when it was made.

const RIGHT = 0.5; // as in outcome_tables.py
const PAGE = 20;
const at = (id) => document.getElementById(id);

const make = (tag, name, ...inside) => {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...inside.filter((one) => one !== null));
  return element;
};

// Unpack a part of the page: zlib, as base64.
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
  const list = make("ol", "lc-options", ...item.options.map((option, number) => {
    const one = make("li", String.fromCharCode(65 + number) === item.answer ? "rp-option" : "", option);
    one.value = number + 1;
    return one;
  }).filter((_, number) => item.options[number]));  // a letter may have no option
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

// The name of a method, which opens its trace if the page has it.
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
  const text = answer.failure ?? answer.conclusion ?? "no conclusion";
  const missing = answer.failure !== undefined || answer.conclusion === undefined;
  const extracted = answer.said && answer.said !== answer.conclusion ? make("small", "", `read as ${answer.said}`) : null;
  const reason = answer.reason && !answer.failure ? make("small", "", answer.reason) : null;
  return make("tr", "",
    make("th", "", opener(item, answer, called, place)),
    make("td", kind(answer.value), sign(answer.value)),
    make("td", missing ? "lc-none" : "rp-conclusion", text, extracted),
    make("td", "", answer.by, reason));
};

const questionBody = (item, nameOf) => {
  const place = make("div", "rp-trace");
  const head = make("tr", "", ...["method", "score", "conclusion", "decided by"].map((text) => make("th", "", text)));
  const rows = item.answers.map((answer) => answerRow(item, answer, nameOf(answer), place));
  const table = make("table", "rp-answers", make("thead", "", head), make("tbody", "", ...rows));
  const reference = make("p", "lc-reference", make("span", "", "Reference"), item.answer ?? "none");
  const question = make("div", "rp-asked", make("p", "rp-words", item.text), options(item), reference);
  return make("div", "rp-body", make("div", "rp-two", pictures(item), question), make("div", "rp-scroll", table), place);
};

// `labels` stand next to the id, `scores` are pairs of a method's name and its mean score.
const question = (item, labels, scores, nameOf) => {
  const top = make("span", "rp-top", make("b", "", item.id), ...labels.filter(Boolean).map((text) => make("span", "", text)));
  const chips = make("span", "rp-chips", ...scores.map(([name, value]) => make("span", kind(value), `${sign(value)} ${name}`)));
  const element = make("details", "rp-entry", make("summary", "", top, make("span", "rp-clipped", item.text), chips));
  element.addEventListener("toggle", () => {
    if (element.open && element.children.length === 1) element.append(questionBody(item, nameOf));
  });
  return element;
};

const box = Object.fromEntries(["benchmark", "skill", "first", "outcome", "second", "text"].map((id) => [id, at(id)]));

const fill = (select, values, chosen) => {
  select.replaceChildren(...values.map((value) => (value === "" ? new Option("all", "") : new Option(value, value))));
  if (values.includes(chosen)) select.value = chosen;
};

// Of two methods, whether they are right.
const pairs = {
  changed: (a, b) => a !== b,
  gained: (a, b) => a && !b,
  lost: (a, b) => !a && b,
  neither: (a, b) => !a && !b,
  both: (a, b) => a && b,
};

const start = ({ arms, items }) => {
  const models = new Set(arms.map((arm) => arm.model));
  const nameOf = ({ arm }) => (models.size > 1 ? `${arms[arm].model} · ${arms[arm].method}` : arms[arm].method);
  const names = [...new Set(arms.map((_, arm) => nameOf({ arm })))];
  const benchmarks = [...new Set(items.map((item) => item.benchmark))];
  let found = items;
  let page = 0;

  items.forEach((item, number) => {
    item.number = number;
    item.by = new Map();
    for (const answer of item.answers) {
      const name = nameOf(answer);
      item.by.set(name, [...(item.by.get(name) ?? []), answer]);
    }
    const conclusions = item.answers.map((answer) => answer.conclusion ?? "");
    item.words = [item.id, item.text, ...item.options, item.answer ?? "", ...conclusions].join("\n").toLowerCase();
  });
  const mean = (item, name) => {
    const answers = item.by.get(name);
    return answers ? answers.reduce((sum, one) => sum + one.value, 0) / answers.length : null;
  };
  const right = (item, name) => (mean(item, name) === null ? null : mean(item, name) >= RIGHT);
  const both = (item) => [right(item, box.first.value), right(item, box.second.value)];

  const fits = (item, words) => {
    if (box.benchmark.value && item.benchmark !== box.benchmark.value) return false;
    if (box.skill.value && item.skill !== box.skill.value) return false;
    if (words && !item.words.includes(words)) return false;
    const outcome = box.outcome.value;
    if (!outcome) return true;
    const [a, b] = both(item);
    if (outcome in pairs) return a !== null && b !== null && pairs[outcome](a, b);
    if (outcome === "right" || outcome === "wrong") return a === (outcome === "right");
    return (item.by.get(box.first.value) ?? []).some((one) => one.by === outcome);
  };

  const count = () => {
    const compared = found.map(both).filter(([a, b]) => a !== null && b !== null);
    const of = (pair) => compared.filter(([a, b]) => pairs[pair](a, b)).length;
    const [first, second] = [box.first.value, box.second.value];
    const pairsText = first === second ? "" : ` Right under both: ${of("both")}, only ${first}: ${of("gained")}, only ${second}: ${of("lost")}, neither: ${of("neither")}.`;
    at("counts").textContent = `${found.length} of ${items.length} questions.${pairsText}`;
  };

  const entry = (item) => {
    const scores = names.filter((name) => item.by.has(name)).map((name) => [name, mean(item, name)]);
    return question(item, [benchmarks.length > 1 ? item.benchmark : "", item.skill], scores, nameOf);
  };

  const draw = () => {
    const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
    page = Math.min(Math.max(page, 0), last);
    const end = Math.min(found.length, (page + 1) * PAGE);
    at("list").replaceChildren(...found.slice(page * PAGE, end).map(entry));
    at("page").textContent = found.length ? `${page * PAGE + 1} to ${end} of ${found.length}` : "none";
    at("back").disabled = page === 0;
    at("on").disabled = page === last;
  };

  const filter = () => {
    const words = box.text.value.trim().toLowerCase();
    found = items.filter((item) => fits(item, words));
    page = 0;
    count();
    draw();
  };

  const skills = () => {
    const here = items.filter((item) => !box.benchmark.value || item.benchmark === box.benchmark.value);
    fill(box.skill, ["", ...[...new Set(here.map((item) => item.skill))].filter(Boolean).sort()], box.skill.value);
  };

  fill(box.benchmark, ["", ...benchmarks], "");
  fill(box.first, names, names[names.length > 1 ? 1 : 0]);
  fill(box.second, names, names[0]);
  skills();
  const bar = document.querySelector(".rp-filter");
  bar.hidden = false;
  document.querySelector(".rp-pages").hidden = false;
  bar.addEventListener("input", (event) => {
    if (event.target === box.benchmark) skills();
    filter();
  });
  for (const [id, step] of [["back", -1], ["on", 1]]) {
    at(id).addEventListener("click", () => {
      page += step;
      draw();
      at("counts").scrollIntoView();
    });
  }
  filter();
};

unpack("index").then(start).catch((error) => {
  at("counts").textContent = `The questions cannot be shown in this browser: ${error.message}`;
});
