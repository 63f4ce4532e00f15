// The page: reads the controls, asks the API for a stream, and shows the search that it sends.
// Texts are inserted as text; only the server's drawing of a search is HTML, in which all text is escaped.

const at = (id) => document.getElementById(id);

const make = (tag, attributes, ...inside) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...inside);
  return element;
};

const message = (text, role = "status") => make("p", { class: "message", role }, text);
const show = (...parts) => at("answer").replaceChildren(...parts);
const fail = (error) => show(message(sentence(error.message), "alert"));
const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

// The API. Addresses are relative, so that the page works behind a proxy too.

const key = () => sessionStorage.getItem("key");

const request = async (address, options = {}) => {
  const headers = { ...options.headers };
  // A header holds bytes, one in each character.
  if (key()) headers.Authorization = `Bearer ${String.fromCharCode(...new TextEncoder().encode(key()))}`;
  let response;
  try {
    response = await fetch(address, { ...options, headers });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error("the server cannot be reached; try again later");
  }
  if (response.ok) return response;
  if (response.status === 401) {
    at("unlock").hidden = false;
    throw new Error(key() ? "the API key is wrong; enter the server's" : "this server needs an API key; enter it");
  }
  const reply = await response.json().catch(() => null);
  throw new Error(reply?.error?.message ?? `the server answered with status ${response.status}`);
};

// The data of a stream's events, parsed, up to its end.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let held = ""; ;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the connection to the server was lost");
    const parts = (held + value).split("\n\n");
    held = parts.pop();
    for (const data of parts.map((part) => part.replace(/^data: /, ""))) {
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

// The controls.

const methods = new Map();
let model = "";

const fill = (select, names, chosen) => {
  select.replaceChildren(...names.map((name) => make("option", {}, name)));
  if (names.includes(chosen)) select.value = chosen;
};

const fitControls = () => {
  const method = methods.get(at("method").value);
  fill(at("judge"), method.judges, at("judge").value);
  at("n-row").hidden = method.single;
  at("judge-row").hidden = !method.judges.length;
  at("budget-row").hidden = at("budget").disabled = !method.budgeted;
};

const load = async () => {
  const found = await (await request("v1/methods")).json();
  model = found.model;
  at("model").textContent = model;
  for (const method of found.data) methods.set(method.id, method);
  for (const name of found.ignored) if (at(name)) at(`${name}-row`).hidden = at(name).disabled = true;
  fill(at("method"), [...methods.keys()], found.default);
  fitControls();
  at("controls").disabled = false;
  at("unlock").hidden = true;
};

for (const slider of document.querySelectorAll("input[type=range]")) {
  const shown = slider.parentElement.querySelector("output");
  slider.addEventListener("input", () => { shown.textContent = slider.value; });
  shown.textContent = slider.value; // which the browser may have restored
}
at("method").addEventListener("change", fitControls);

at("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", at("key").value.trim());
  load().then(() => show(message("Unlocked.")), fail);
});

// The picture: a promise of its data URL, or null.

let picture = null;

const dataUrl = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(new Error(`the file ${file.name} cannot be read; choose it again`));
  reader.readAsDataURL(file);
});

const choose = (file) => {
  const most = Number(at("picture").dataset.maxBytes);
  if (file && file.size > most) {
    fail(new Error(`the picture has more than the ${most / 1e6} MB allowed; choose a smaller one`));
    file = null;
  }
  picture = file ? dataUrl(file) : null;
  picture?.catch(() => {}); // said when it is used
  URL.revokeObjectURL(at("preview").src);
  at("preview").hidden = at("remove").hidden = !file;
  if (file) at("preview").src = URL.createObjectURL(file);
  else at("preview").removeAttribute("src");
  at("preview").alt = file?.name ?? "";
  at("drop-hint").textContent = file?.name ?? "Drop or paste a picture here, or choose a file.";
  at("picture").value = ""; // so that the same file can be chosen again
};

const firstFile = (transfer) => [...(transfer?.files ?? [])][0];
const over = (event, on) => {
  event.preventDefault();
  at("drop").classList.toggle("over", on);
};

at("picture").addEventListener("change", () => at("picture").files.length && choose(at("picture").files[0]));
at("remove").addEventListener("click", () => choose(null));
document.addEventListener("dragover", (event) => over(event, true));
document.addEventListener("dragleave", (event) => over(event, false));
document.addEventListener("drop", (event) => {
  over(event, false);
  if (firstFile(event.dataTransfer)) choose(firstFile(event.dataTransfer));
});
document.addEventListener("paste", (event) => {
  if (!firstFile(event.clipboardData)) return;
  event.preventDefault();
  choose(firstFile(event.clipboardData));
});

at("paste").hidden = !navigator.clipboard?.read; // browsers offer it on secure connections only
at("paste").addEventListener("click", async () => {
  try {
    for (const item of await navigator.clipboard.read()) {
      const type = item.types.find((name) => name.startsWith("image/"));
      if (type) return choose(new File([await item.getType(type)], "clipboard", { type }));
    }
    throw new Error("the clipboard holds no picture; copy one first");
  } catch (error) {
    fail(error.name === "NotAllowedError" ? new Error("the browser does not allow that; press Ctrl+V") : error);
  }
});

for (const button of document.querySelectorAll("#examples button")) {
  button.addEventListener("click", async () => {
    at("question").value = button.textContent;
    const address = button.querySelector("img").src;
    try {
      const data = await (await request(address)).blob();
      choose(new File([data], address.split("/").pop(), { type: data.type }));
    } catch (error) {
      fail(error);
    }
  });
}

// The answer.

const opened = new Map(); // the parts of the drawing that the user has opened or closed
let running = null;

const draw = (html) => {
  const drawing = document.createElement("template");
  drawing.innerHTML = html;
  for (const details of drawing.content.querySelectorAll("details[id]")) {
    details.firstElementChild.addEventListener("click", () => opened.set(details.id, !details.open));
    details.open = opened.get(details.id) ?? details.open;
  }
  return drawing.content;
};

// Replace the drawing; what is scrolled or has the focus stays so.
const update = (html, ...above) => {
  const place = at("answer");
  const left = place.querySelector(".lc-columns")?.scrollLeft ?? 0;
  const focused = place.contains(document.activeElement) ? document.activeElement.closest("details[id]")?.id : null;
  show(...above, draw(html));
  if (left) place.querySelector(".lc-columns")?.scrollTo({ left });
  if (focused) at(focused)?.firstElementChild.focus({ preventScroll: true });
};

const links = (id) => {
  const address = `traces/${encodeURIComponent(id)}`;
  return make("p", { class: "links" },
    make("a", { href: address, target: "_blank", rel: "noopener" }, "Link to this answer"),
    make("a", { href: `${address}.json`, download: "trace.json" }, "Download the trace"));
};

const readControls = async () => {
  const method = methods.get(at("method").value);
  const content = [{ type: "text", text: at("question").value }];
  if (picture) content.unshift({ type: "image_url", image_url: { url: await picture } });
  const search = { method: method.id };
  if (!method.single) search.n = Number(at("n").value);
  if (method.judges.length) search.judge = at("judge").value;
  if (method.budgeted && at("budget").value) search.budget = Number(at("budget").value);
  const body = {
    model,
    messages: [{ role: "user", content }],
    search,
    stream: true,
    stream_options: { include_search: true },
  };
  if (!at("temperature").disabled) body.temperature = Number(at("temperature").value);
  if (at("seed").value) body.seed = Number(at("seed").value);
  return JSON.stringify(body);
};

const ask = async (signal) => {
  const headers = { "Content-Type": "application/json" };
  const body = await readControls();
  const response = await request("v1/chat/completions", { method: "POST", headers, body, signal });
  for await (const chunk of events(response)) {
    if (chunk.error) throw new Error(chunk.error.message);
    if (!chunk.search) continue;
    const { html, stage, trace } = chunk.search;
    if (trace) update(html, links(trace));
    else update(html, message(stage ? `Searching: ${stage}...` : "Starting..."));
  }
};

const stop = () => {
  running?.abort(); // the server notices, and stops the work
  running = null;
  at("stop").disabled = true;
};

at("question-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  stop();
  const mine = running = new AbortController();
  at("stop").disabled = false;
  opened.clear();
  show(message("Waiting for the server..."));
  try {
    await ask(mine.signal);
  } catch (error) {
    if (running === mine) fail(error); // else it was stopped
  }
  if (running === mine) stop();
});

at("stop").addEventListener("click", () => {
  stop();
  at("answer").querySelector(".message")?.replaceWith(message("Stopped."));
});
window.addEventListener("pagehide", stop);

at("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("question-form").requestSubmit(at("ask"));
});

load().catch(fail);
