(() => {
  const bar = document.querySelector(".lc-filter");
  const [source, kind, text] = ["source", "kind", "text"].map((name) => document.getElementById(name));
  const shown = document.getElementById("shown");
  const records = [...document.querySelectorAll(".lc-record")];
  const filter = () => {
    const words = text.value.trim().toLowerCase();
    let count = 0;
    for (const record of records) {
      const found = record.dataset.found.split(" ");
      const fits =
        (!source.value || record.dataset.source === source.value) &&
        (!kind.value || (kind.value === "any" ? found[0] : kind.value === "none" ? !found[0] : found.includes(kind.value))) &&
        (!words || record.textContent.toLowerCase().includes(words));
      record.hidden = !fits;
      count += fits ? 1 : 0;
    }
    shown.textContent = `${count} of ${records.length}`;
  };
  bar.hidden = false;
  bar.addEventListener("input", filter);
  filter();
})();
