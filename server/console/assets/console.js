/**
 * What the console does beyond pages and forms: live figures, streamed answers, questions before what
 * cannot be undone. Every page works without it but for these.
 */

/** Replaces the live panel by what the server sends, while the page is looked at. */
function followTraffic() {
  const panel = document.querySelector("[data-live]");
  if (!(panel instanceof HTMLElement)) return;
  /** @type {EventSource | undefined} */
  let source;
  const open = () => {
    source = new EventSource(panel.dataset.live ?? "");
    source.addEventListener("traffic", (event) => {
      panel.innerHTML = JSON.parse(event.data);
    });
  };
  const close = () => source?.close();
  document.addEventListener("visibilitychange", () => document.hidden ? close() : open());
  addEventListener("pagehide", close);
  open();
}

function askBeforeForms() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement)) return;
    const question = form.dataset.confirm;
    if (question !== undefined && !confirm(question)) event.preventDefault();
  });
}

/** Streams both answers side by side instead of loading the page anew. */
function streamPlayground() {
  const form = document.querySelector("form[data-playground]");
  if (!(form instanceof HTMLFormElement)) return;
  /** @type {AbortController | undefined} */
  let running;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    running?.abort();
    running = new AbortController();
    const { signal } = running;
    for (const side of ["left", "right"]) void answer(form, side, signal);
  });
  document.querySelector("[data-stop]")?.addEventListener("click", () => running?.abort());
  form.querySelector("textarea")?.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}

/**
 * @param {HTMLFormElement} form
 * @param {string} side
 * @param {AbortSignal} signal
 */
async function answer(form, side, signal) {
  const pane = document.querySelector(`[data-pane="${side}"]`);
  const output = pane?.querySelector("output");
  const note = pane?.querySelector("[data-note]");
  if (!pane || !output || !note) return;
  output.textContent = "";
  note.textContent = "waiting…";
  pane.classList.add("busy");
  const begun = performance.now();
  const seen = { first: 0, tokens: 0 };
  const seconds = (/** @type {number} */ from) => ((performance.now() - from) / 1000).toFixed(2);
  try {
    const body = new FormData(form);
    body.set("side", side);
    const response = await fetch("/console/playground/answer", { method: "POST", body, signal });
    for await (const chunk of events(response)) {
      if (chunk.error) throw new Error(chunk.error.message);
      const text = chunk.choices?.[0]?.delta?.content ?? "";
      if (text !== "" && seen.first === 0) seen.first = performance.now();
      if (chunk.usage) seen.tokens = chunk.usage.completion_tokens;
      output.append(text);
      note.textContent = `${seconds(begun)} s`;
    }
    const first = ((seen.first - begun) / 1000).toFixed(2);
    note.textContent = `${seen.tokens} tokens, first after ${first} s, all after ${
      seconds(begun)
    } s`;
  } catch (error) {
    note.textContent = signal.aborted
      ? "stopped"
      : String(error instanceof Error ? error.message : error);
  } finally {
    pane.classList.remove("busy");
  }
}

/** @param {Response} response */
async function* events(response) {
  if (!response.ok || response.body === null) {
    yield await response.json();
    return;
  }
  let rest = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  while (true) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const data = block.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

/** Copies what is shown once. */
function copyButtons() {
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.getAttribute("data-copy") ?? "")?.textContent ??
        "";
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    });
  }
}

followTraffic();
askBeforeForms();
streamPlayground();
copyButtons();
