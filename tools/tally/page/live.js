// The page of `tally serve`: asks again and again.
const EVERY = 3000;

async function get(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(answer.status === 404 ? "gone" : `the server answered ${answer.status}`);
  return answer.json();
}

// show(report data); notice(text, isBad), "" for none.
export function startLive({ select, pause, show, notice }) {
  let pid = new URLSearchParams(location.search).get("pid") || null;
  let isPaused = false;
  let timer = 0;
  let turn = 0;  // of asking: what belongs to an earlier one is dropped

  const label = (one) => `${one.pid}  ${one.command}${one.live ? "" : " (ended)"}`;

  function list(processes) {
    if (pid === null && processes.length) {
      const first = processes.find((one) => one.live) || processes[0];
      pid = String(first.pid);
    }
    const known = [...select.options].map((option) => option.textContent).join("\n");
    if (known === processes.map(label).join("\n")) return;
    select.replaceChildren(...processes.map((one) => {
      const option = document.createElement("option");
      option.value = one.pid;
      option.textContent = label(one);
      return option;
    }));
    select.value = pid;
  }

  async function ask() {
    const mine = ++turn;
    clearTimeout(timer);
    try {
      const processes = await get("api/v1/processes");
      if (mine !== turn) return;
      list(processes);
      if (!processes.length) {
        notice("No process with a record yet. Start one: tally run PROGRAM", false);
      } else {
        const data = await get(`api/v1/processes/${encodeURIComponent(pid)}/report`);
        if (mine !== turn) return;
        show(data);
        notice(data.process.live ? "" : `Process ${pid} has ended: this is what it held last.`, false);
      }
    } catch (error) {
      if (mine !== turn) return;
      notice(error.message === "gone" ? `Process ${pid} has ended and left no record: this is what it held last. Choose another.`
        : error instanceof TypeError ? "The server does not answer: is tally serve still running? Asking again …"
          : `${error.message}. Asking again …`, true);
    }
    if (!isPaused) timer = setTimeout(ask, EVERY);
  }

  select.addEventListener("change", () => {
    pid = select.value;
    history.replaceState(null, "", `?pid=${encodeURIComponent(pid)}${location.hash}`);
    ask();
  });
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", String(isPaused));
    pause.textContent = isPaused ? "Go on" : "Pause";
    if (isPaused) {
      clearTimeout(timer);
      ++turn;
    } else {
      ask();
    }
  });
  ask();
}
