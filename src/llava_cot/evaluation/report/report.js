// The list of questions: what is shown of them, by the filters, a page at a time.

const PAGE = 20;
const box = Object.fromEntries(["benchmark", "skill", "first", "outcome", "second", "text"].map((id) => [id, at(id)]));

const fill = (select, values, chosen) => {
  select.replaceChildren(...values.map((value) => (value === "" ? new Option("all", "") : new Option(value, value))));
  if (values.includes(chosen)) select.value = chosen;
};

// Of two methods, right or not; null where one was not asked.
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
    const said = item.answers.map((answer) => answer.conclusion ?? "");
    item.words = [item.id, item.text, ...item.options, item.answer ?? "", ...said].join("\n").toLowerCase();
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
    const told = first === second ? "" : ` Right under both: ${of("both")}, only ${first}: ${of("gained")}, only ${second}: ${of("lost")}, neither: ${of("neither")}.`;
    at("counts").textContent = `${found.length} of ${items.length} questions.${told}`;
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
