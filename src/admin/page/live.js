// Asks Sidegate about once a second while somebody looks, and shows what it says.

const POLL = 1000;
const PATIENCE = 4000;
const CHARTED = 120;

let status = null;
let before = null;
let silentSince = null;
let timer = null;
let polling = false;
const chart = [];

const fetched = async (path, options = {}) => {
  const response = await fetch(path, { ...options, cache: "no-store", signal: AbortSignal.timeout(options.patience ?? PATIENCE) });
  return { ok: response.ok, code: response.status, text: await response.text() };
};

const fetchedJson = async (path) => {
  const { ok, code, text } = await fetched(path);
  if (!ok) throw new Error(`${path} answered ${code}: ${text.trim()}`);
  return JSON.parse(text);
};

const drawChart = () => {
  const most = Math.max(1, ...chart);
  const points = chart.map((value, at) => `${CHARTED - chart.length + at + 1} ${(38 - (35 * value) / most).toFixed(2)}`);
  const [area, line] = byId("chart").children;
  const first = CHARTED - chart.length + 1;
  line.setAttribute("d", points.length ? `M${points.join("L")}` : "");
  area.setAttribute("d", points.length ? `M${first} 40L${points.join("L")}L${CHARTED} 40Z` : "");
  setText(byId("chart-words"), `Queries per second over the last two minutes, at most ${rate(Math.max(0, ...chart))}`);
};

const show = (next, decisions) => {
  const at = performance.now();
  const counts = new Map();
  // How fast a counter grows, from two looks at it; a smaller value is a new beginning.
  const perSecond = (key, value) => {
    counts.set(key, value);
    const past = before?.counts.get(key) ?? 0;
    return !before || before.paused || value < past ? null : (1000 * (value - past)) / (at - before.at);
  };
  const total = next.dns.queries.filter((one) => !NOT_QUERIES.has(one.route)).reduce((sum, one) => sum + one.count, 0);
  const all = perSecond("all queries", total);
  if (all !== null) {
    chart.push(all);
    if (chart.length > CHARTED) chart.shift();
  }
  showStatus(next, perSecond, all);
  showIdsOf(next);
  showDecisions(decisions.decisions);
  drawChart();
  before = { at, counts, paused: false };
  status = next;
};

const heard = () => {
  silentSince = null;
  document.title = "Sidegate";
  document.body.classList.remove("silent");
  byId("alarm").hidden = true;
  setBadge(byId("live"), { text: "live", tone: "good" });
};

const notHeard = (error) => {
  silentSince ??= new Date();
  document.title = "Sidegate does not answer";
  document.body.classList.add("silent");
  setBadge(byId("live"), { text: "no answer", tone: "bad" });
  const why = error instanceof SyntaxError || /answered/.test(error.message) ? ` (${error.message})` : "";
  const last = status ? " What is shown is what it said last." : "";
  setText(byId("alarm"), `Sidegate does not answer since ${clock(silentSince)}${why}.${last}`);
  byId("alarm").hidden = false;
  if (before) before.paused = true;
};

const poll = async () => {
  if (polling) return;
  polling = true;
  try {
    const [next, decisions] = await Promise.all([fetchedJson("/status"), fetchedJson("/decisions")]);
    show(next, decisions);
    heard();
  } catch (error) {
    notHeard(error);
  }
  polling = false;
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(poll, POLL);
};

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) return poll();
  if (before) before.paused = true;
  setBadge(byId("live"), { text: "paused", tone: "mute" });
});

/** The names that somebody means: the host of a URL, an id in every zone, or the name itself. */
const meant = (text) => {
  const host = text.trim().replace(/^[a-z][a-z0-9+.-]*:\/\//i, "").replace(/[/?#].*$/s, "").replace(/^.*@/, "").replace(/:\d*$/, "");
  const isId = /^[a-z0-9-]+$/i.test(host) && status?.zones.length;
  return isId ? status.zones.map((one) => `${host}.${one.zone}`) : [host];
};

const DECISIONS = { endpoint: "good", public: "info", vpc: "other", zone: "other", "not ready": "warn" };

const answerOf = (report) => {
  const shown = element("div", "answer");
  const title = element("h3");
  title.append(element("span", "code", report.name), element("span", `badge ${DECISIONS[report.decision] ?? "mute"}`, report.decision));
  const facts = element("dl");
  const fact = (term, text) => text && facts.append(element("dt", "", term), element("dd", "", text));
  fact("Rule", `${report.rule}, ${report.rule_text}`);
  fact("Because of", report.origin);
  fact("To", report.endpoint ?? (report.upstream && `upstream ${report.upstream}`));
  fact("Addresses", report.addresses.join(", "));
  fact("Servers", report.servers.join(", "));
  const statement = (said) => [said.origin, said.region && `in ${said.region}`, said.endpoints && `at ${said.endpoints.join(", ")}`, said.since && `since ${said.since}`];
  fact("Said of the id", report.said.map((said) => statement(said).filter(Boolean).join(", ")).join("\n"));
  fact("Notes", report.notes.join("\n"));
  shown.append(title, facts);
  return shown;
};

let asked = 0;
const ask = async (text) => {
  const number = (asked += 1);
  const answers = await Promise.all(
    meant(text).map(async (name) => {
      try {
        const { ok, text: said } = await fetched(`/route?name=${encodeURIComponent(name)}`);
        return ok ? answerOf(JSON.parse(said)) : element("p", "answer wrong", said.trim());
      } catch {
        return element("p", "answer wrong", "Sidegate does not answer.");
      }
    }),
  );
  // A slow answer to an older question does not replace the newer.
  if (number === asked) byId("route").replaceChildren(...answers);
};

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask(byId("name").value);
});

byId("ids").addEventListener("click", (event) => {
  const id = event.target.closest("[data-ask]")?.dataset.ask;
  if (!id) return;
  byId("name").value = id;
  byId("h-route").scrollIntoView({ block: "center" });
  byId("name").focus({ preventScroll: true });
  ask(id);
});

byId("filter").addEventListener("input", () => status && showIdsOf(status));

const tell = (text, tone) => {
  const toast = byId("outcome");
  toast.className = `toast ${tone}`;
  toast.firstElementChild.textContent = text;
  toast.hidden = false;
};
byId("outcome").lastElementChild.addEventListener("click", () => (byId("outcome").hidden = true));

byId("reload").addEventListener("click", async () => {
  byId("reload").disabled = true;
  try {
    const { ok, text } = await fetched("/reload", { method: "POST", patience: 60000 });
    tell(ok ? "The configuration was reloaded." : `Not reloaded, everything is as before.\n${text.trim()}`, ok ? "good" : "bad");
  } catch {
    tell("Sidegate does not answer.", "bad");
  }
  byId("reload").disabled = false;
});

poll();
