// What each section shows of a status; `live` calls these with every new one.

const TONES = { endpoint: "good", public: "info", vpc: "other", zone: "other", nonexistent: "mute", not_ready: "warn", refused: "bad", invalid: "bad" };
const RULES = ["listed by name", "apex of the zone", "id known private", "id with endpoint", "below a private name", "other name in zone", "zone with own servers", "everything else"];
const FINE = new Set(["NOERROR", "NXDOMAIN", "finished", "idle", "client_left", "upstream_left"]);

const routeBadge = (route) => badge(route.replace("_", " "), TONES[route] ?? "mute");
const ruleWords = (rule) => (rule === null ? "" : `${rule} · ${RULES[rule] ?? ""}`);
const resultBadge = (result) => (FINE.has(result) ? result.replaceAll("_", " ") : badge(result.replaceAll("_", " "), "warn"));

const showDecisions = makeTable("decisions", "The last decisions, the newest first", [
  { head: "Time", kind: "short quiet", show: (one) => clock(one.at) },
  { head: "By", kind: "short", show: (one) => one.by },
  { head: "Name", kind: "main code", show: (one) => one.name ?? "–" },
  { head: "Type", kind: "short", show: (one) => one.type },
  { head: "Route", kind: "short", show: (one) => one.route && routeBadge(one.route) },
  { head: "Rule", kind: "short", show: (one) => ruleWords(one.rule) },
  { head: "Result", kind: "short", show: (one) => [resultBadge(one.result), one.found] },
], "None yet: the next query or connection appears here.");

const showQueries = makeTable("dns", "DNS queries by route and response code", [
  { head: "Route", kind: "main short", show: (one) => routeBadge(one.route) },
  { head: "Answer", kind: "short", show: (one) => one.rcode },
  { head: "Per second", kind: "number", show: (one) => rate(one.perSecond) },
  { head: "Total", kind: "number", show: (one) => count(one.count) },
], "No query has come yet.");

const showConnections = makeTable("forwarder", "Forwarder connections by entrance and how they ended", [
  { head: "Entrance", kind: "main short", show: (one) => one.entrance },
  { head: "Ended", kind: "short", show: (one) => resultBadge(one.reason) },
  { head: "Per second", kind: "number", show: (one) => rate(one.perSecond) },
  { head: "Total", kind: "number", show: (one) => count(one.count) },
  { head: "From clients", kind: "number", show: (one) => bytes(one.up) },
  { head: "To clients", kind: "number", show: (one) => bytes(one.down) },
], "No connection or request has ended yet.");

const STANDING = { up: "good", "on probation": "warn", down: "bad" };
const showAddresses = makeTable("endpoints", "Endpoints and their addresses", [
  { head: "Address", kind: "main code short", show: (one) => one.address ?? "no address" },
  { head: "Health", kind: "short", show: (one) => one.standing && badge(one.standing, STANDING[one.standing]) },
  { head: "For", kind: "short", show: (one) => one.for_seconds !== null && one.for_seconds !== undefined ? duration(one.for_seconds) : "" },
  { head: "Endpoint", kind: "", show: (one) => one.endpoint },
  { head: "Check", kind: "short", show: (one) => one.check },
  { head: "Remarks", kind: "", show: (one) => one.remarks },
], "There is no endpoint.");

const showServers = makeTable("upstreams", "Upstream servers", [
  { head: "Server", kind: "main code short", show: (one) => one.server },
  { head: "Group", kind: "", show: (one) => one.group },
  { head: "Latency", kind: "number", show: (one) => (one.latency_ms === null ? "" : `${one.latency_ms.toFixed(1)} ms`) },
  { head: "State", kind: "short", show: (one) => serverState(one) },
], "There is no upstream server.");

const serverState = (one) => {
  if (one.failures > 0) return badge(counted(one.failures, "failure"), one.failures > 2 ? "bad" : "warn");
  return one.latency_ms === null ? badge("not asked") : badge("answers", "good");
};

const lines = (said, of) => said.map(of).join("\n");
const showIds = makeTable("ids", "Private ids and where each came from", [
  { head: "Id", kind: "main short", show: (one) => ({ ask: one.id }) },
  { head: "Said by", kind: "", show: (one) => lines(one.said, (said) => said.origin) },
  { head: "Region", kind: "short", show: (one) => lines(one.said, (said) => said.region ?? "every region") },
  { head: "Endpoint", kind: "code", show: (one) => (one.said.some((said) => said.endpoints) ? lines(one.said, (said) => said.endpoints?.join(", ") ?? "–") : "") },
  { head: "Since", kind: "short", show: (one) => (one.said.some((said) => said.since) ? lines(one.said, (said) => said.since?.replace("T", " ").replace("Z", "") ?? "–") : "") },
], "No id is known or fits.");

const showSources = makeTable("sources", "Sources of ids", [
  { head: "Source", kind: "main", show: (one) => one.source },
  { head: "Ids", kind: "number", show: (one) => (one.ids === null ? badge("no list", one.required ? "bad" : "warn") : count(one.ids)) },
  { head: "Age", kind: "short", show: (one) => one.age },
  { head: "Every", kind: "short", show: (one) => duration(one.interval_seconds) },
  { head: "Reads", kind: "number", show: (one) => count(one.reads) },
  { head: "Failed", kind: "number", show: (one) => count(one.failures) },
  { head: "Remarks", kind: "", show: (one) => sourceRemarks(one) },
], "No source: ids are those of the configuration, or learned from public DNS.");

const sourceRemarks = (one) => {
  const held = one.held && (one.held.removals ? `${counted(one.held.removals, "removal")} held` : `all ${counted(one.held.everything, "id")} held`);
  return [one.required ? "required" : "not required", one.from_disk && badge("kept on disk", "warn"), held && badge(held, "warn"), one.error];
};

/** One row for each address; one that says why where an endpoint has none. */
const addressRows = (endpoint) => {
  const common = { endpoint: `${endpoint.endpoint}${endpoint.endpoint.includes(endpoint.region) ? "" : `, ${endpoint.region}`}`, check: endpoint.health };
  const problem = [endpoint.all_down && badge("all down: all stay in", "bad"), endpoint.problem];
  if (endpoint.addresses.length === 0) return [{ ...common, address: null, remarks: problem }];
  return endpoint.addresses.map((one, at) => ({
    ...common,
    address: one.address.includes(":") ? `[${one.address}]:${endpoint.port}` : `${one.address}:${endpoint.port}`,
    standing: one.standing,
    for_seconds: one.for_seconds,
    remarks: [one.near && badge("near"), one.last_error, ...(at === 0 ? problem : [])],
  }));
};

const READINESS = { ready: "good", pending: "warn", draining: "warn" };
const NOT_QUERIES = new Set(["health"]);

const showTile = (id, text, tone = "") => {
  const tile = byId(id);
  setText(tile, text);
  tile.className = tone;
};

/** Shows a whole status. `perSecond` says how fast a counter grew since the one before. */
const showStatus = (status, perSecond, shownRate) => {
  setText(byId("version"), status.version);
  setBadge(byId("readiness"), { text: status.readiness.state, tone: READINESS[status.readiness.state] });
  const waits = [status.readiness.pending.length && `Waiting for: ${status.readiness.pending.join(", ")}.`, status.not_ready];
  byId("pending").hidden = !waits.some(Boolean);
  setText(byId("pending"), waits.filter(Boolean).join(" "));

  const addresses = status.endpoints.flatMap((endpoint) => endpoint.addresses);
  const up = addresses.filter((one) => one.up).length;
  const failing = status.upstreams.filter((one) => one.failures > 0).length;
  const servers = status.upstreams.length;
  const open = status.forwarder.open.reduce((sum, one) => sum + one.connections, 0);
  showTile("tile-rate", shownRate === null ? "–" : rate(shownRate));
  showTile("tile-ids", count(status.ids.count + status.learned), status.not_ready ? "warn" : "");
  showTile("tile-endpoints", `${up} of ${addresses.length}`, up === 0 ? "bad" : up < addresses.length ? "warn" : "");
  showTile("tile-upstreams", `${servers - failing} of ${servers}`, failing === 0 ? "" : failing === servers ? "bad" : "warn");
  showTile("tile-open", count(open));
  showTile("tile-uptime", duration(status.uptime_seconds));

  const queries = status.dns.queries.filter((one) => !NOT_QUERIES.has(one.route));
  showQueries(queries.map((one) => ({ ...one, perSecond: perSecond(`dns ${one.route} ${one.rcode}`, one.count) })));
  showConnections(status.forwarder.ended.map((one) => ({ ...one, perSecond: perSecond(`forwarder ${one.entrance} ${one.reason}`, one.count) })));
  const found = status.dns.found;
  const cached = found.cached + found.stale;
  const share = cached + found.asked ? `${Math.round((100 * cached) / (cached + found.asked))} % of what is forwarded came from the cache. ` : "";
  const waiting = `${counted(status.dns.in_flight, "question")} under way.`;
  setText(byId("cache"), `${share}Cache: ${bytes(status.dns.cache.bytes)} of ${bytes(status.dns.cache.max_bytes)}. ${waiting}`);
  setText(byId("open"), `Open now: ${status.forwarder.open.map((one) => `${one.entrance} ${count(one.connections)}`).join(", ")}.`);

  showAddresses(status.endpoints.flatMap(addressRows));
  showServers(status.upstreams);
  const now = Date.parse(status.now);
  showSources(status.sources.map((one) => ({ ...one, age: one.as_of === null ? "" : duration(Math.max(0, now - Date.parse(one.as_of)) / 1000) })));
  const { succeeded, refused } = status.reloads;
  setText(byId("reloads"), `Configuration reloads: ${count(succeeded)} succeeded, ${count(refused)} refused.`);
};

let idsShown = "";
/** Shows the ids that fit the filter, and how many there are. */
const showIdsOf = (status) => {
  const filter = byId("filter").value.trim().toLowerCase();
  const key = JSON.stringify([filter, status.ids, status.learned]);
  if (key === idsShown) return;
  idsShown = key;
  const fitting = status.ids.listed.filter((one) => one.id.includes(filter));
  showIds(fitting);
  const all = status.ids.listed_are_all ? counted(status.ids.count, "id") : `${count(status.ids.count)} ids, the first ${count(status.ids.listed.length)} listed: ask for any other above`;
  setText(byId("ids-count"), `${all}${status.learned ? `, ${count(status.learned)} learned` : ""}`);
};
