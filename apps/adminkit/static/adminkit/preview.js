// Says below a pattern which names it matches, as the server sees it.
const PAUSE_MS = 250;
const waiting = new WeakMap();

function outputOf(input) {
  const id = `${input.id}-preview`;
  let output = document.getElementById(id);
  if (!output) {
    output = document.createElement("output");
    output.id = id;
    output.className = "st-help st-preview";
    input.insertAdjacentElement("afterend", output);
  }
  return output;
}

async function preview(input) {
  const output = outputOf(input);
  const pattern = input.value.trim();
  if (!pattern) {
    output.textContent = "";
    return;
  }
  const answer = await fetch(`${input.dataset.preview}?${new URLSearchParams({ pattern })}`);
  if (answer.ok && input.value.trim() === pattern) output.textContent = (await answer.json()).sentence;
}

document.addEventListener("input", (event) => {
  const input = event.target;
  if (!input.dataset?.preview) return;
  clearTimeout(waiting.get(input));
  waiting.set(input, setTimeout(() => preview(input), PAUSE_MS));
});
document.addEventListener("DOMContentLoaded", () => {
  for (const input of document.querySelectorAll("input[data-preview]")) preview(input);
});
