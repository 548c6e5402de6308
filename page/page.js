/* The script of the page: what runs, from /status.json once a second, and what has happened, from
 * /history.json.
 *
 * It reads and changes nothing. From the top to the bottom:
 *
 *     Words       numbers, sizes and times as text
 *     Nodes       making elements; setting only what differs
 *     States      how a state looks: a shape and a tone, besides its word
 *     Samples     counters of the last minutes as series: rates, open connections, CPU, memory
 *     Charts      a series as a picture, with its numbers beside it
 *     Tables      a line for each instance; a cell for each where they are many
 *     Processes   a section for each cluster, one table for all single processes
 *     Time line   changes of states: strips, and a list
 *     Details     one instance in a dialog: its values, charts and last lines
 *     Summary     the health and the sums, at the top
 *     Polling     when it is asked, and what follows when no answer comes
 *
 * All text of pupgevent and its processes is put in as text (`data`, `textContent`), never as HTML.
 * A node is made once and then changed in place, so that focus, selection and scrolling stay.
 * ES2018, without a library: browsers of the last years run it as it is.
 */
(function () {
  "use strict";

  /** Milliseconds between two questions; and at most, when answers take long or none comes. */
  const POLL_EVERY = 1000;
  const POLL_SLOWEST = 5000;
  /** A question is asked again after so many times what the last answer took. */
  const REST = 8;
  /** Milliseconds after which an answer does not come any more. */
  const ANSWER_TIMEOUT = 15000;
  /** The history is asked for when something has changed, and in each so many-th poll. */
  const HISTORY_EVERY = 5;
  /** Seconds that charts show: the shortest that holds all samples. */
  const SPANS = [30, 60, 120, 180, 300];
  /** Samples that are kept, and those in the small chart of a line. */
  const KEPT = 301;
  const SPARK_SAMPLES = 120;
  /** Seconds without a sample after which a line is broken, and a rate is not known. */
  const GAP = 12;
  /** A cluster with more instances is a grid of cells; its table shows those that fail. */
  const FEW = 24;
  /** Lines that a table gets at once. */
  const LINES_AT_ONCE = 100;
  /** Moments that are kept, lines of the list of changes, strips. */
  const MOST_MOMENTS = 2000;
  const MOST_CHANGES = 100;
  const MOST_STRIPS = 40;
  /** Lines of a log that are kept while somebody reads further up. */
  const MOST_LOG_LINES = 5000;

  /** Where the page lies. Without the user and password that a URL may hold: fetch refuses these. */
  const HERE = location.origin + location.pathname;

  // Words

  const NOTHING = "–";

  /** 1234567 as 1,234,567. */
  function whole(value) {
    return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",");
  }

  /** A number per second: one digit behind the point below ten. */
  function decimal(value) {
    return value > 0 && value < 9.95 ? value.toFixed(1) : whole(value);
  }

  /** Bytes, in units of 1024, as `pupgevent status` counts them. */
  function size(value) {
    if (value < 1024) {
      return Math.round(value) + " B";
    }
    let unit = -1;
    do {
      value /= 1024;
      unit += 1;
    } while (value >= 1023.5 && unit < 4);
    return value.toFixed(value < 9.95 ? 1 : 0) + " " + "KMGTP"[unit] + "B";
  }

  function sizeRate(value) {
    return size(value) + "/s";
  }

  /** 1 is one core. */
  function percent(value) {
    return decimal(value * 100) + " %";
  }

  /** The two largest units that there are. */
  function duration(seconds) {
    const rest = Math.max(0, Math.floor(seconds));
    for (const [unit, name, smaller, smallName] of [
      [86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"],
    ]) {
      if (rest >= unit) {
        const small = Math.floor(rest % unit / smaller);
        return Math.floor(rest / unit) + " " + name + (small ? " " + small + " " + smallName : "");
      }
    }
    return rest + " s";
  }

  /** A time-out or a short wait. */
  function brief(seconds) {
    if (seconds < 0.9995) {
      const milliseconds = seconds * 1000;
      return milliseconds.toFixed(milliseconds < 9.95 ? 1 : 0) + " ms";
    }
    return seconds < 9.95 ? seconds.toFixed(1) + " s" : duration(seconds);
  }

  function twoDigits(value) {
    return (value < 10 ? "0" : "") + value;
  }

  const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

  /** Unix time as the clock here shows it, with the day where that is another. */
  function clock(unix, withSeconds) {
    const then = new Date(unix * 1000);
    const time = twoDigits(then.getHours()) + ":" + twoDigits(then.getMinutes()) +
      (withSeconds ? ":" + twoDigits(then.getSeconds()) : "");
    const isToday = then.toDateString() === new Date().toDateString();
    return isToday ? time : then.getDate() + " " + MONTHS[then.getMonth()] + " " + time;
  }

  function nowUnix() {
    return Date.now() / 1000;
  }

  /** "1 instance", "2 instances". */
  function counted(count, word) {
    return whole(count) + " " + word + (count === 1 ? "" : "s");
  }

  /** "a, b and c". */
  function listed(words) {
    const last = words[words.length - 1];
    return words.length > 1 ? words.slice(0, -1).join(", ") + " and " + last : last || "";
  }

  // Escape sequences of terminals (ECMA-48: CSI, then OSC and its like, then the short ones), and
  // control characters besides tabs.
  const ESCAPES = new RegExp(
    "\\x1b\\[[0-?]*[ -/]*[@-~]|" +
    "\\x1b[\\]PX^_][^\\x07\\x1b]*(?:\\x07|\\x1b\\\\)?|" +
    "\\x1b[ -/]*[0-~]?|" +
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]", "g");

  /** Text of an application without what only a terminal understands. */
  function clean(text) {
    return text.replace(ESCAPES, "");
  }

  // Nodes

  const SVG = "http://www.w3.org/2000/svg";

  function byId(id) {
    return document.getElementById(id);
  }

  /** An element with its class, attributes and children: nodes, or strings as text. */
  function make(tag, className, attributes, ...children) {
    return fill(document.createElement(tag), className, attributes, children);
  }

  /** The same of SVG. */
  function draw(tag, className, attributes, ...children) {
    return fill(document.createElementNS(SVG, tag), className, attributes, children);
  }

  function fill(node, className, attributes, children) {
    if (className) {
      node.setAttribute("class", className);
    }
    for (const name of Object.keys(attributes || {})) {
      node.setAttribute(name, attributes[name]);
    }
    node.append(...children);
    return node;
  }

  /** Set the text of an element that holds nothing else; whether it differed. */
  function setText(node, text) {
    const first = node.firstChild;
    if (first && first.nodeType === Node.TEXT_NODE && first === node.lastChild) {
      if (first.data === text) {
        return false;
      }
      first.data = text;
      return true;
    }
    node.textContent = text;
    return true;
  }

  function setAttribute(node, name, value) {
    if (node.getAttribute(name) !== value) {
      node.setAttribute(name, value);
    }
  }

  function setHidden(node, hidden) {
    if (node.hidden !== hidden) {
      node.hidden = hidden;
    }
  }

  /** Have an element hold these nodes in this order; those that are in place are not touched. */
  function arrange(parent, nodes) {
    const wanted = new Set(nodes);
    for (const node of Array.from(parent.childNodes)) {
      if (!wanted.has(node)) {
        node.remove();
      }
    }
    let next = parent.firstChild;
    for (const node of nodes) {
      if (node === next) {
        next = next.nextSibling;
      } else {
        parent.insertBefore(node, next);
      }
    }
  }

  /** Views by key: the same view for the same key, and those that are not asked for are dropped. */
  class Keyed {
    constructor(create) {
      this.create = create;
      this.views = new Map();
    }

    /** A view for each item, which has the key `keyOf(item)`. */
    of(items, keyOf) {
      const views = new Map();
      for (const item of items) {
        const key = keyOf(item);
        views.set(key, this.views.get(key) || this.create(item));
      }
      for (const [key, view] of this.views) {
        if (!views.has(key) && view.drop) {
          view.drop();
        }
      }
      this.views = views;
      return Array.from(views.values());
    }
  }

  /** Tells views whether their node is on the screen: what nobody sees need not be drawn. */
  const sight = {
    views: new Map(),
    observer: new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const view = sight.views.get(entry.target);
        if (view) {
          view.isSeen = entry.isIntersecting;
          if (view.isSeen) {
            view.draw();
          }
        }
      }
    }, { rootMargin: "100px" }),
    watch(node, view) {
      view.isSeen = false;
      sight.views.set(node, view);
      sight.observer.observe(node);
    },
    forget(node) {
      sight.views.delete(node);
      sight.observer.unobserve(node);
    },
  };

  // States

  // Shapes in a square of 16: a colour alone tells nothing to who cannot see it.
  const DISC = "M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 1 1 0-11z";
  const RING = DISC + "M8 4.5a3.5 3.5 0 1 0 0 7a3.5 3.5 0 1 0 0-7z";
  const HALF = RING + "M8 4.5a3.5 3.5 0 0 1 0 7z";
  const STOPPING = RING + "M6.4 6.4h3.2v3.2h-3.2z";
  const TRIANGLE = "M8 1.6l6.8 12.2h-13.6zM7.1 6v4h1.8v-4zM7.1 11v1.7h1.8v-1.7z";
  const CROSS = "M2 2h12v12h-12zM5.6 4.4l-1.2 1.2 2.4 2.4-2.4 2.4 1.2 1.2 2.4-2.4 2.4 2.4 " +
    "1.2-1.2-2.4-2.4 2.4-2.4-1.2-1.2-2.4 2.4z";
  const CHECK = "M3.6 7.2l-1.4 1.4 4.3 4.3 7.4-7.9-1.4-1.4-6 6.4z";
  const PAUSE = RING + "M6 6h1.4v4h-1.4zM8.6 6h1.4v4h-1.4z";

  /** By its word: the shape, and the tone, which is a class. */
  const LOOKS = {
    running: [DISC, "ok"],
    healthy: [DISC, "ok"],
    finished: [CHECK, "ok"],
    starting: [HALF, "busy"],
    stopping: [STOPPING, "busy"],
    waiting: [PAUSE, "busy"],
    backoff: [TRIANGLE, "bad"],
    degraded: [TRIANGLE, "warn"],
    down: [CROSS, "bad"],
    unhealthy: [TRIANGLE, "bad"],
    errored: [CROSS, "bad"],
    exhausted: [CROSS, "bad"],
    created: [RING, "idle"],
    stopped: [RING, "idle"],
  };

  function lookOf(word) {
    return LOOKS[word] || [RING, "idle"];
  }

  /** A state as its shape and its word. */
  class Badge {
    constructor(tag) {
      this.shape = draw("path", "", { "fill-rule": "evenodd" });
      this.word = document.createTextNode("");
      this.node = make(tag, "state", {},
        draw("svg", "", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" },
          this.shape),
        make("span", "", {}, this.word));
    }

    show(word) {
      if (this.word.data !== word) {
        const [shape, tone] = lookOf(word);
        this.word.data = word;
        this.shape.setAttribute("d", shape);
        this.node.setAttribute("class", "state " + tone);
        this.node.setAttribute("data-state", word);
      }
    }
  }

  /** The state of an instance in the word that `pupgevent status` has for it. */
  function wordOf(member) {
    if (member.waitsFor !== null) {
      return "waiting";
    }
    return member.state === "running" && !member.serves ? "down" : member.state;
  }

  function isFailing(member) {
    return member.failingFor !== null;
  }

  /** Seconds of starting after which it is told what is waited for. */
  const SLOW_START = 5;

  /** Why it does not serve, and what comes next, in the words of `pupgevent status`; empty where
   * nothing is to be told. */
  function whyOf(member, process) {
    const parts = [troubleOf(member), ...(process.members.length === 1 ? timesOf(process) : [])];
    return parts.filter(Boolean).join(", ");
  }

  function troubleOf(member) {
    const failing = member.failingFor === null ? "" : "failing for " + duration(member.failingFor);
    if (member.waitsFor !== null) {
      return "waiting for " + member.waitsFor;
    }
    const health = member.health;
    if (member.state === "running" && health && !health.healthy) {
      return "unhealthy: " + health.last;
    }
    if (member.state === "running") {
      const reason = member.backend && member.backend.reason;
      return member.serves ? "" : "not reached" + (reason ? ": " + reason : "");
    }
    if (failing && member.retryIn !== null) {
      const seconds = Math.ceil(member.retryIn);
      return member.lastExit + ", next try " + (seconds ? "in " + duration(seconds) : "now") +
        ", " + failing;
    }
    if (failing && member.state === "starting") {
      return member.lastExit + ", starting again, " + failing;
    }
    if (failing) {
      return (member.reason || member.state) + ", " + duration(member.since) + " ago";
    }
    return member.state === "starting" && member.port !== null && member.since > SLOW_START
      ? (health && health.last) || "port " + member.port + " does not accept yet" : "";
  }

  /** When `cron` starts a process, and `terminate` stops it. */
  function timesOf(process) {
    return [["next start", process.nextRun], ["next stop", process.nextStop]]
      .filter(([, at]) => at !== null)
      .map(([what, at]) => what + " " + clock(at, at % 60 >= 1));
  }

  /** What the clients of a balancer speak, in the words of URLs; empty where it is not known. */
  function protocolOf(balancer) {
    const name = balancer.http ? "http" : "";
    return balancer.tls ? (name ? "https" : "tls") : name;
  }

  /** Seconds before a certificate expires from which on it is told in a colour. */
  const EXPIRES_SOON = 21 * 86400;
  const EXPIRES = 3 * 86400;

  /** When a certificate expires, and how bad that is. */
  function expiryOf(certificate) {
    const left = certificate.expires - nowUnix();
    const days = Math.floor(left / 86400);
    const text = left < 0 ? "has expired"
      : "expires in " + (days ? counted(days, "day") : duration(left));
    return [text, left < EXPIRES ? "bad" : left < EXPIRES_SOON ? "warn" : ""];
  }

  /** The certificate of a balancer, or the first of them to expire. */
  function certificateOf({ certificates }) {
    const first = certificates.reduce((one, other) => one.expires <= other.expires ? one : other);
    const [text, tone] = expiryOf(first);
    return [(certificates.length === 1 ? "certificate "
      : whole(certificates.length) + " certificates, the first ") + text, tone];
  }

  /** Restarts by cause: "2 exit, 1 signal", or "signal" for all of them; empty without any. */
  function causesOf(member) {
    const causes = Object.keys(member.restartsBy).filter((cause) => member.restartsBy[cause]);
    return causes.length === 1 ? causes[0]
      : causes.map((cause) => whole(member.restartsBy[cause]) + " " + cause).join(", ");
  }

  // Samples

  /** How far a counter has risen. One that has fallen began anew at zero. */
  function rise(before, after) {
    return after >= before ? after - before : after;
  }

  /** The series of one instance, or one process: the newest value is the last. NaN: not known.
   * With http `connections` are requests, and `errors` answers of 5xx. */
  class Load {
    constructor() {
      this.connections = [];
      this.errors = [];
      this.open = [];
      this.bytesIn = [];
      this.bytesOut = [];
      this.cpu = [];
      this.memory = [];
    }

    push(values) {
      for (const name of Object.keys(values)) {
        this[name].push(values[name]);
        if (this[name].length > KEPT) {
          this[name].shift();
        }
      }
    }

    /** The newest; NaN where there is none. */
    last(name) {
      const values = this[name];
      return values.length ? values[values.length - 1] : NaN;
    }
  }

  /** Counters before the first client. */
  const NO_CLIENTS = { accepted: 0, total: 0, open: 0, bytesIn: 0, bytesOut: 0, http: null };

  /** Answers of 5xx to clients, so far: of a balancer also those that pupgevent gave itself. */
  function errorsIn(counters) {
    const { answers = {}, ownAnswers = {} } = counters.http || {};
    return (answers["5xx"] || 0) + (ownAnswers["5xx"] || 0);
  }


  /** What is remembered of an instance: its series, and its counters as they were. */
  class MemberSamples {
    constructor() {
      this.load = new Load();
      this.before = NO_CLIENTS;
    }

    /** `elapsed`: seconds since the last sample, NaN where that is too long ago. */
    take(member, elapsed) {
      const after = member.backend || NO_CLIENTS;
      const before = this.before;
      const values = {
        connections: rise(before.total, after.total) / elapsed,
        errors: rise(errorsIn(before), errorsIn(after)) / elapsed,
        open: after.open,
        bytesIn: rise(before.bytesIn, after.bytesIn) / elapsed,
        bytesOut: rise(before.bytesOut, after.bytesOut) / elapsed,
        cpu: member.cpu === null ? NaN : member.cpu,
        memory: member.memory === null ? NaN : member.memory,
      };
      this.before = after;
      this.load.push(values);
      return values;
    }
  }

  /** What is remembered of a process. */
  class ProcessSamples {
    constructor() {
      this.load = new Load();
      this.members = new Map();
      this.before = NO_CLIENTS;
    }

    take(process, elapsed) {
      const sums = { cpu: NaN, memory: NaN };
      const members = new Map();
      for (const member of process.members) {
        const samples = this.members.get(member.id) || new MemberSamples();
        const values = samples.take(member, elapsed);
        members.set(member.id, samples);
        sums.cpu = sumOfKnown(sums.cpu, values.cpu);
        sums.memory = sumOfKnown(sums.memory, values.memory);
      }
      this.members = members;
      // The balancer's own counters: they go on when an instance with its counters has gone.
      const after = process.balancer || NO_CLIENTS;
      const clients = after.http ? "total" : "accepted";
      const values = Object.assign(sums, {
        connections: rise(this.before[clients], after[clients]) / elapsed,
        errors: rise(errorsIn(this.before), errorsIn(after)) / elapsed,
        open: after.open,
        bytesIn: rise(this.before.bytesIn, after.bytesIn) / elapsed,
        bytesOut: rise(this.before.bytesOut, after.bytesOut) / elapsed,
      });
      this.before = after;
      this.load.push(values);
      return values;
    }
  }

  function sumOfKnown(sum, value) {
    return isNaN(sum) ? value : isNaN(value) ? sum : sum + value;
  }

  /** All series, and the times of their samples.
   *
   * A time is the clock of this page, set by the first answer of a pupgevent and then moved on by
   * its own uptime: so a rate is right however late an answer comes, and the same answer twice is
   * one sample.
   */
  class Samples {
    constructor() {
      this.times = [];
      this.processes = new Map();
      this.sums = {};
      this.pid = null;
      this.uptime = 0;
      this.offset = 0;
    }

    /** Add an answer; false where nothing has been counted since the last one. */
    take(status) {
      const isAnother = status.pid !== this.pid || status.uptime < this.uptime;
      if (!isAnother && status.uptime === this.uptime) {
        return false;
      }
      if (isAnother) {
        this.offset = performance.now() / 1000 - status.uptime;
      }
      this.pid = status.pid;
      this.uptime = status.uptime;
      const at = this.offset + status.uptime;
      const elapsed = at - this.newest();
      this.times.push(at);
      if (this.times.length > KEPT) {
        this.times.shift();
      }
      this.takeProcesses(status, isAnother || elapsed > GAP ? NaN : elapsed);
      return true;
    }

    takeProcesses(status, elapsed) {
      const processes = new Map();
      const sums = { connections: 0, requests: 0, errors: 0, open: 0, bytesIn: 0, bytesOut: 0 };
      for (const process of status.processes) {
        const samples = this.processes.get(process.id) || new ProcessSamples();
        const values = samples.take(process, elapsed);
        processes.set(process.id, samples);
        const { connections, errors, open, bytesIn, bytesOut } = values;
        const added = { errors, open, bytesIn, bytesOut };
        added[hasHttp(process) ? "requests" : "connections"] = connections;
        for (const name of Object.keys(added)) {
          sums[name] += added[name];
        }
      }
      this.processes = processes;
      this.sums = sums;
    }

    newest() {
      return this.times.length ? this.times[this.times.length - 1] : NaN;
    }

    /** The seconds that charts show. */
    span() {
      const held = this.times.length ? this.newest() - this.times[0] : 0;
      return SPANS.find((span) => held <= span) || SPANS[SPANS.length - 1];
    }

    /** The `Load` of a process, or of one of its instances. */
    loadOf(process, member) {
      const samples = this.processes.get(process);
      const found = samples && member ? samples.members.get(member) : samples;
      return found ? found.load : null;
    }
  }

  const samples = new Samples();

  // Charts

  /** The charts there are: a heading, and one or two series with the same unit. */
  const CHARTS = {
    connections: { title: "Connections/s", spell: decimal, lines: [["connections", ""]] },
    open: { title: "Open connections", spell: whole, lines: [["open", ""]] },
    requests: { title: "Requests/s", spell: decimal, lines: [["connections", ""]] },
    errors: { title: "5xx/s", spell: decimal, lines: [["errors", ""]] },
    flying: { title: "Requests in flight", spell: whole, lines: [["open", ""]] },
    traffic: {
      title: "Traffic", spell: sizeRate, base: 1024,
      lines: [["bytesIn", "in"], ["bytesOut", "out"]],
    },
    cpu: { title: "CPU", spell: percent, lines: [["cpu", ""]], least: 0.1 },
    memory: { title: "Memory", spell: size, base: 1024, lines: [["memory", ""]] },
  };
  /** Those of what has a balancer, by its protocol. */
  const TCP_CHARTS = ["connections", "open", "traffic"];
  const HTTP_CHARTS = ["requests", "errors", "flying", "traffic"];
  const NO_CHARTS = [];
  const WIDTH = 300;
  const HEIGHT = 64;

  /** A round number that is not below `most`: 1, 2 or 5 and zeros; of bytes, a power of two. */
  function ceiling(most, base) {
    if (base) {
      return Math.pow(2, Math.ceil(Math.log2(Math.max(most, base))));
    }
    const unit = Math.pow(10, Math.floor(Math.log10(most)));
    return unit * [1, 2, 5, 10].find((step) => unit * step >= most * 0.999999);
  }

  /** One chart: its numbers now, its line over the last minutes, its highest and lowest. */
  class Chart {
    constructor(kind) {
      this.kind = kind;
      this.node = make("figure", kind.lines.length > 1 ? "chart double" : "chart");
      this.values = kind.lines.map(([, name]) => {
        const value = make("span", "value", {}, NOTHING);
        return { value, node: make("span", name ? "now two" : "now", {},
          ...(name ? [make("span", "key " + name, { "aria-hidden": "true" }), name + " "] : []),
          value) };
      });
      this.area = draw("path", "area " + kind.lines[kind.lines.length - 1][1]);
      this.lines = kind.lines.map(([, name]) => draw("path", "line " + name));
      this.cursor = draw("path", "cursor");
      this.picture = draw("svg", "plot",
        { role: "img", viewBox: "0 0 " + WIDTH + " " + HEIGHT, preserveAspectRatio: "none",
          "aria-label": kind.title },
        draw("path", "guides", { d: "M0 .5H300M0 32H300M0 63.5H300" }),
        this.area, ...this.lines.slice().reverse(), this.cursor);
      this.top = make("span", "top", { "aria-hidden": "true" });
      this.began = make("span", "", {}, "");
      this.range = make("span", "range", {}, "");
      this.node.append(
        make("figcaption", "", {}, make("span", "title", {}, kind.title),
          make("span", "numbers", {}, ...this.values.map((each) => each.node))),
        make("div", "frame", {}, this.picture, this.top),
        make("div", "scale", { "aria-hidden": "true" }, this.began, this.range,
          make("span", "", {}, "now")));
    }

    /** Draw the samples of a load; `pointed` is a place between 0 and 1, or null. */
    draw(load, times, span, pointed) {
      const all = this.kind.lines.map(([name]) => load[name]);
      const from = times[times.length - 1] - span;
      const [lowest, highest] = extremes(all, times, from);
      const limit = ceiling(Math.max(highest, this.kind.least || 1), this.kind.base);
      all.forEach((values, index) => {
        const last = values[values.length - 1];
        setText(this.values[index].value, isNaN(last) ? NOTHING : this.kind.spell(last));
        const [line, area] = outline(values, times, from, span, limit);
        this.lines[index].setAttribute("d", line);
        // Below the last: so two lines differ by more than their colours.
        if (index === all.length - 1) {
          this.area.setAttribute("d", area);
        }
      });
      setText(this.top, this.kind.spell(limit));
      setText(this.began, "−" + duration(span));
      this.point(all, times, from, span, pointed, lowest, highest);
      setAttribute(this.picture, "aria-label", this.summary(all, span, lowest, highest));
    }

    /** Lowest and highest, or the values at the place that somebody points at. */
    point(all, times, from, span, pointed, lowest, highest) {
      const spell = this.kind.spell;
      const index = pointed === null ? -1 : nearest(times, from + pointed * span);
      const back = times.length - index;
      const values = index < 0 ? [] : all.map((each) => each[each.length - back]);
      if (!values.length || values.some((value) => value === undefined || isNaN(value))) {
        this.cursor.setAttribute("d", "");
        setText(this.range, isFinite(lowest) ? this.ends(all, times, from) : "no samples yet");
        return;
      }
      const at = times[index];
      this.cursor.setAttribute("d", "M" + ((at - from) / span * WIDTH).toFixed(1) + " 0V" + HEIGHT);
      setText(this.range, clock(nowUnix() - performance.now() / 1000 + at, true) + ": " +
        values.map((value) => spell(value)).join(", "));
    }

    /** Lowest and highest of one line, the highest of each of two. */
    ends(all, times, from) {
      const ends = all.map((values) => extremes([values], times, from));
      const highest = ends.map(([, most]) => this.kind.spell(isFinite(most) ? most : 0)).join(", ");
      return (all.length === 1 ? "min " + this.kind.spell(ends[0][0]) + ", " : "") +
        "max " + highest;
    }

    /** The chart in a sentence. */
    summary(all, span, lowest, highest) {
      const spell = this.kind.spell;
      if (!isFinite(lowest)) {
        return this.kind.title + ": no samples yet";
      }
      const now = all.map((values, index) => {
        const last = values[values.length - 1];
        return this.kind.lines[index][1] + " " + (isNaN(last) ? "not known" : spell(last));
      });
      return this.kind.title + " over the last " + duration(span) + ": now " +
        now.map((text) => text.trim()).join(", ") +
        "; lowest " + spell(lowest) + ", highest " + spell(highest);
    }
  }

  /** The lowest and the highest value since `from`; infinite where there is none. */
  function extremes(all, times, from) {
    let lowest = Infinity;
    let highest = -Infinity;
    for (const values of all) {
      for (let back = 1; back <= values.length && times[times.length - back] >= from; back += 1) {
        const value = values[values.length - back];
        lowest = value < lowest ? value : lowest;
        highest = value > highest ? value : highest;
      }
    }
    return [lowest, highest];
  }

  /** A line through the values, and the area below it, as paths; broken where nothing is known. */
  function outline(values, times, from, span, limit) {
    let line = "";
    let area = "";
    let start = null;
    let end = null;
    const finish = () => {
      // A single value would be no line at all.
      line += start !== null && start === end ? "h.1" : "";
      area += start === null ? "" : "V" + HEIGHT + "H" + start + "Z";
      start = null;
    };
    const offset = times.length - values.length;
    let before = NaN;
    for (let index = 0; index < values.length; index += 1) {
      const at = times[offset + index];
      const value = values[index];
      if (at < from) {
        continue;
      }
      if (isNaN(value) || at - before > GAP) {
        finish();
      }
      before = at;
      if (isNaN(value)) {
        continue;
      }
      const x = ((at - from) / span * WIDTH).toFixed(1);
      const y = (HEIGHT - 1 - value / limit * (HEIGHT - 4)).toFixed(1);
      line += (start === null ? "M" : "L") + x + " " + y;
      area += start === null ? "M" + x + " " + HEIGHT + "V" + y : "L" + x + " " + y;
      start = start === null ? x : start;
      end = x;
    }
    finish();
    return [line, area];
  }

  /** The index of the time that is nearest; -1 where none is near. */
  function nearest(times, at) {
    let found = -1;
    let least = 3;
    times.forEach((time, index) => {
      if (Math.abs(time - at) < least) {
        least = Math.abs(time - at);
        found = index;
      }
    });
    return found;
  }

  /** Some charts side by side, of one load. Who points at one sees that moment in all. */
  class Charts {
    constructor(names) {
      this.charts = names.map((name) => new Chart(CHARTS[name]));
      this.node = make("div", names.length === 6 ? "charts six" : "charts", {}, ...this.charts.map((chart) => chart.node));
      this.load = null;
      this.pointed = null;
      this.node.addEventListener("pointermove", (event) => this.follow(event));
      this.node.addEventListener("pointerleave", () => this.pointTo(null));
      sight.watch(this.node, this);
    }

    drop() {
      sight.forget(this.node);
    }

    follow(event) {
      const frame = event.target.closest && event.target.closest(".frame");
      const box = frame && frame.getBoundingClientRect();
      this.pointTo(box ? (event.clientX - box.left) / box.width : null);
    }

    pointTo(place) {
      this.pointed = place;
      this.draw();
    }

    update(load) {
      this.load = load;
      if (this.isSeen) {
        this.draw();
      }
    }

    draw() {
      if (this.load && samples.times.length) {
        for (const chart of this.charts) {
          chart.draw(this.load, samples.times, samples.span(), this.pointed);
        }
      }
    }
  }

  /** The small chart in a line of a table. */
  class Spark {
    constructor() {
      this.path = draw("path", "line");
      this.node = draw("svg", "spark",
        { viewBox: "0 0 120 20", preserveAspectRatio: "none", "aria-hidden": "true" }, this.path);
      this.values = [];
      this.limit = 1;
      sight.watch(this.node, this);
    }

    drop() {
      sight.forget(this.node);
    }

    /** `limit` is the upper end of the scale. */
    update(values, limit) {
      this.values = values;
      this.limit = limit;
      if (this.isSeen) {
        this.draw();
      }
    }

    draw() {
      // As the charts: the line fills the picture sooner, and has more to tell later.
      const width = Math.max(30, Math.min(SPARK_SAMPLES, samples.times.length));
      const shown = this.values.slice(-width);
      let line = "";
      let start = "";
      shown.forEach((value, index) => {
        const x = (width - shown.length + index + 1) / width * 120;
        const place = x.toFixed(1) + " " + (18.5 - value / this.limit * 17).toFixed(1);
        if (isNaN(value)) {
          start = "";
        } else if (start === "") {
          start = "M" + place;
        } else {
          // A value between two that are not known is no line, but a speck.
          line += (start === "drawn" ? "" : start) + "L" + place;
          start = "drawn";
        }
      });
      setAttribute(this.path, "d", line);
    }
  }

  // Tables

  function orNothing(value, spell) {
    return value === null || value === undefined || isNaN(value) ? NOTHING : spell(value);
  }

  /** The columns there are: a heading, and the text of an instance. `wide`: not on narrow screens.
   * `spark`: beside it the small chart of that series. */
  const COLUMNS = {
    since: { title: "Since", text: (member) => duration(member.since) },
    pid: { title: "PID", text: (member) => orNothing(member.pid, String) },
    port: { title: "Port", text: (member) => orNothing(member.port, String) },
    restarts: {
      title: "Restarts", text: (member) => whole(member.restarts), more: causesOf,
    },
    rate: {
      title: "Conn/s", spark: "connections",
      text: (member, load) => orNothing(load.last("connections"), decimal),
    },
    requests: {
      title: "Req/s", spark: "connections",
      text: (member, load) => orNothing(load.last("connections"), decimal),
    },
    errors: {
      title: "5xx", text: (member) => {
        const { http } = backendOf(member);
        return http ? whole(http.answers["5xx"]) : NOTHING;
      },
    },
    open: { title: "Open", text: (member) => orNothing(backendOf(member).open, whole) },
    flying: { title: "In flight", text: (member) => orNothing(backendOf(member).open, whole) },
    total: { title: "Total", text: (member) => orNothing(backendOf(member).total, whole) },
    bytesIn: { title: "In", text: (member) => orNothing(backendOf(member).bytesIn, size) },
    bytesOut: { title: "Out", text: (member) => orNothing(backendOf(member).bytesOut, size) },
    cpu: { title: "CPU", text: (member) => orNothing(member.cpu, percent) },
    busy: {
      title: "CPU", spark: "cpu", text: (member) => orNothing(member.cpu, percent),
    },
    memory: { title: "Memory", text: (member) => orNothing(member.memory, size) },
    held: { title: "Memory", spark: "memory", text: (member) => orNothing(member.memory, size) },
  };

  function classOf(name) {
    return (name === "restarts" ? "text column-" : "number column-") + name;
  }

  function backendOf(member) {
    return member.backend || {};
  }

  /** One instance in a table: a line, and below it why it does not run. */
  class Row {
    constructor(id, names) {
      this.badge = new Badge("span");
      this.button = make("button", "name", { type: "button", "data-instance": id, title: id }, id);
      this.button.addEventListener("click", () => details.open(id));
      this.cells = names.map((name) => this.cell(name));
      this.why = make("span", "reason");
      this.lastLine = make("code", "said");
      this.whyRow = make("tr", "why", { hidden: "" },
        make("td", "", { colspan: names.length + 2 }, this.why, this.lastLine));
      this.node = make("tbody", "", { "data-row": id },
        make("tr", "", {},
          make("th", "", { scope: "row" }, this.button),
          make("td", "", { "data-title": "State" }, this.badge.node),
          ...this.cells.map((cell) => cell.node)),
        this.whyRow);
    }

    cell(name) {
      const column = COLUMNS[name];
      const value = document.createTextNode("");
      const more = column.more ? make("span", "more") : null;
      const spark = column.spark ? new Spark() : null;
      const node = make("td", classOf(name), { "data-title": column.title });
      node.append(...(spark ? [spark.node] : []), make("span", "value", {}, value),
        ...(more ? [more] : []));
      return { column, node, value, more, spark };
    }

    drop() {
      for (const cell of this.cells) {
        if (cell.spark) {
          cell.spark.drop();
        }
      }
    }

    /** `limits`: the upper end of the scale of each small chart. */
    update(member, process, load, limits) {
      this.badge.show(wordOf(member));
      for (const { column, value, more, spark } of this.cells) {
        const text = column.text(member, load);
        if (value.data !== text) {
          value.data = text;
        }
        if (more) {
          setText(more, column.more(member));
        }
        if (spark) {
          spark.update(load[column.spark], limits[column.spark]);
        }
      }
      this.explain(member, process);
    }

    explain(member, process) {
      const why = whyOf(member, process);
      const said = member.lastLine === null ? "" : clean(member.lastLine);
      setHidden(this.whyRow, !why && !said);
      setText(this.why, why);
      setText(this.lastLine, said);
      setHidden(this.lastLine, !said);
    }
  }

  /** A table of instances. `names` are those of its columns. */
  class Table {
    constructor(caption, heading, names) {
      this.rows = new Keyed((item) => new Row(item.member.id, names));
      this.sparks = names.map((name) => COLUMNS[name].spark).filter(Boolean);
      this.most = LINES_AT_ONCE;
      this.head = make("thead", "", {}, make("tr", "", {},
        make("th", "", { scope: "col" }, heading), make("th", "", { scope: "col" }, "State"),
        ...names.map((name) => make("th", classOf(name), { scope: "col" }, COLUMNS[name].title))));
      this.caption = make("caption", "unseen", {}, caption);
      this.table = make("table", names.includes("total") ? "instances" : "instances few", {},
        this.caption, this.head);
      this.more = make("button", "plain", { type: "button", hidden: "" });
      this.more.addEventListener("click", () => {
        this.most += LINES_AT_ONCE;
        refresh();
      });
      this.node = make("div", "lines", {}, this.table, this.more);
    }

    drop() {
      this.rows.of([], null);
    }

    /** Show these: an instance and its process each. */
    update(items) {
      const shown = items.slice(0, this.most);
      const loads = shown.map(({ member, process }) => samples.loadOf(process.id, member.id));
      const limits = {};
      for (const name of this.sparks) {
        limits[name] = Math.max(name === "cpu" ? 0.1 : 1, ...loads.map(
          (load) => highestOf(load[name].slice(-SPARK_SAMPLES))));
      }
      const rows = this.rows.of(shown, ({ member }) => member.id);
      rows.forEach((row, index) => {
        row.update(shown[index].member, shown[index].process, loads[index], limits);
      });
      arrange(this.table, [this.caption, this.head, ...rows.map((row) => row.node)]);
      setHidden(this.table, !shown.length);
      const left = items.length - shown.length;
      setHidden(this.more, left === 0);
      setText(this.more, "Show " + whole(Math.min(left, LINES_AT_ONCE)) + " of " +
        whole(left) + " more");
    }
  }

  function highestOf(values) {
    return values.reduce((most, value) => (value > most ? value : most), 0);
  }

  /** One instance of many: its shape, and its name for who points at it. */
  class Cell {
    constructor(id) {
      this.id = id;
      this.word = "";
      this.shape = draw("path", "", { "fill-rule": "evenodd" });
      this.node = make("button", "", { type: "button", "data-instance": id, tabindex: "-1" },
        draw("svg", "", { viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" },
          this.shape));
      this.node.addEventListener("click", () => details.open(id));
    }

    show(word) {
      if (word !== this.word) {
        const [shape, tone] = lookOf(word);
        this.word = word;
        this.shape.setAttribute("d", shape);
        this.node.className = tone;
        this.node.title = this.id + ": " + word;
        this.node.setAttribute("aria-label", this.id + ", " + word);
      }
    }
  }

  /** All instances of a big cluster, a small cell each. Tab reaches one of them, arrows the rest. */
  class Grid {
    constructor(process) {
      this.cells = new Keyed((member) => new Cell(member.id));
      this.shown = [];
      this.node = make("div", "grid", { role: "toolbar",
        "aria-label": "Instances of " + process + ", arrow keys go from one to the next" });
      this.node.addEventListener("keydown", (event) => this.onKey(event));
      this.node.addEventListener("focusin", (event) => this.stopAt(event.target.closest("button")));
    }

    update(members) {
      this.shown = this.cells.of(members, (member) => member.id);
      this.shown.forEach((cell, index) => cell.show(wordOf(members[index])));
      arrange(this.node, this.shown.map((cell) => cell.node));
      setHidden(this.node, !members.length);
      if (members.length && !this.node.querySelector('[tabindex="0"]')) {
        this.shown[0].node.tabIndex = 0;
      }
    }

    /** Have Tab come back to this one. */
    stopAt(button) {
      for (const other of this.node.querySelectorAll('[tabindex="0"]')) {
        other.tabIndex = -1;
      }
      button.tabIndex = 0;
    }

    onKey(event) {
      const nodes = this.shown.map((cell) => cell.node);
      const at = nodes.indexOf(document.activeElement);
      const next = at < 0 ? -1 : this.after(event.key, at, nodes);
      if (next >= 0) {
        event.preventDefault();
        nodes[Math.max(0, Math.min(nodes.length - 1, next))].focus();
      }
    }

    /** The index to which a key leads; negative where it leads nowhere. */
    after(key, at, nodes) {
      const below = nodes.findIndex((node) => node.offsetTop > nodes[0].offsetTop);
      const across = below < 0 ? nodes.length : below;
      const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across,
                      Home: -at, End: nodes.length - 1 - at };
      return key in steps ? Math.max(0, at + steps[key]) : -1;
    }
  }

  // Processes

  /** What is looked for. */
  const filter = { text: "", failing: false };

  function isWanted(member) {
    if (filter.failing && !isFailing(member)) {
      return false;
    }
    const text = [member.id, wordOf(member), member.pid, member.port].join(" ").toLowerCase();
    return filter.text.split(/\s+/).every((word) => text.includes(word));
  }

  function isFiltered() {
    return filter.text !== "" || filter.failing;
  }

  /** It may have more than one instance, or has a port of its own. */
  function isCluster(process) {
    return process.balancer !== null || process.members.length !== 1 ||
      process.members[0].id !== process.id;
  }

  function hasHttp(process) {
    return process.balancer !== null && process.balancer.http !== null;
  }

  /** One cluster: a heading, charts, and its instances. */
  class ClusterSection {
    constructor(process) {
      this.id = process.id;
      this.badge = new Badge("p");
      this.facts = make("p", "facts");
      this.charts = null;
      this.table = null;
      this.grid = new Grid(process.id);
      this.all = make("button", "plain", { type: "button", "aria-expanded": "false" });
      this.all.addEventListener("click", () => this.toggle());
      this.isWhole = false;
      this.body = make("div", "body");
      this.node = make("section", "card process",
        { id: "process-" + process.id, "aria-labelledby": "title-" + process.id, tabindex: "-1" },
        make("div", "head", {},
          make("h2", "", { id: "title-" + process.id }, process.id),
          this.badge.node, this.facts),
        this.body);
    }

    /** Another balancer, protocol or port needs other charts and columns. */
    shape(process) {
      const isBalanced = process.balancer !== null;
      const isHttp = hasHttp(process);
      const hasPorts = process.members.some((member) => member.port !== null);
      const shape = [isBalanced, isHttp, hasPorts].join();
      if (shape === this.shaped) {
        return;
      }
      this.drop();
      this.shaped = shape;
      const balanced = isHttp ? HTTP_CHARTS : isBalanced ? TCP_CHARTS : NO_CHARTS;
      const clients = isHttp ? ["requests", "errors", "flying"] : ["rate", "open"];
      this.charts = new Charts([...balanced, "cpu", "memory"]);
      this.table = new Table("Instances of " + process.id, "Instance", [
        "since", "pid", ...(hasPorts ? ["port"] : []), "restarts",
        ...(isBalanced ? [...clients, "total", "bytesIn", "bytesOut", "cpu"] : ["busy"]),
        "memory"]);
      this.body.className = isBalanced ? "body" : "body beside";
      this.body.replaceChildren(this.charts.node,
        make("div", "", {}, this.grid.node, this.all, this.table.node));
    }

    drop() {
      for (const view of [this.charts, this.table]) {
        if (view) {
          view.drop();
        }
      }
    }

    toggle() {
      this.isWhole = !this.isWhole;
      refresh();
    }

    update(process) {
      this.shape(process);
      const found = process.members.filter(isWanted);
      setHidden(this.node, isFiltered() && !found.length);
      this.badge.show(process.state);
      this.tell(process);
      this.charts.update(samples.loadOf(process.id));
      const areMany = process.members.length > FEW;
      this.grid.update(areMany ? found : []);
      setHidden(this.all, !areMany || isFiltered());
      setAttribute(this.all, "aria-expanded", String(this.isWhole));
      setText(this.all, this.isWhole
        ? "Show only those that fail" : "Show all " + counted(process.members.length, "instance"));
      const listedOnes = areMany && !this.isWhole && !isFiltered()
        ? found.filter(isFailing) : found;
      this.table.update(listedOnes.map((member) => ({ member, process })));
    }

    /** How many are up, where its clients connect, who waits, and what comes next. */
    tell(process) {
      const balancer = process.balancer;
      const isHttp = hasHttp(process);
      const facts = [[whole(process.up) + " of " + whole(process.instances) + " up", ""]];
      if (balancer) {
        const host = balancer.host.includes(":") ? "[" + balancer.host + "]" : balancer.host;
        facts.push(
          [(host === "0.0.0.0" ? "" : host) + ":" + balancer.port, ""],
          ...(protocolOf(balancer) ? [[protocolOf(balancer), ""]] : []),
          ...(balancer.tls ? [certificateOf(balancer.tls)] : []),
          [balancer.strategy, ""],
          ...(isHttp ? [[counted(balancer.http.connections, "client"), ""]] : []),
          [whole(balancer.queue) + " queued", balancer.queue ? "warn" : ""]);
        if (balancer.turnedAway) {
          facts.push([whole(balancer.turnedAway) + " turned away", "warn"]);
        }
      }
      if (process.members.length > 1) {
        facts.push(...timesOf(process).map((text) => [text, ""]));
      }
      while (this.facts.children.length > facts.length) {
        this.facts.lastChild.remove();
      }
      facts.forEach(([text, tone], index) => {
        const node = this.facts.children[index] ||
          this.facts.appendChild(make("span", "", {}, text));
        setText(node, text);
        setAttribute(node, "class", tone);
      });
    }
  }

  /** All processes that are no cluster: a line each. */
  class SinglesSection {
    constructor() {
      this.table = new Table("Single processes", "Process",
        ["since", "pid", "restarts", "busy", "held"]);
      this.facts = make("p", "facts");
      this.node = make("section", "card process",
        { id: "singles", "aria-labelledby": "title-singles", tabindex: "-1" },
        make("div", "head", {},
          make("h2", "", { id: "title-singles" }, "Single processes"), this.facts),
        this.table.node);
    }

    update(processes) {
      const items = processes
        .map((process) => ({ member: process.members[0], process }))
        .filter(({ member }) => isWanted(member));
      setHidden(this.node, !items.length);
      const sum = (name) => processes.reduce((total, process) => total + process[name], 0);
      setText(this.facts, sum("up") + " of " + sum("wanted") + " up");
      this.table.update(items);
    }
  }

  /** All sections, in the order of the configuration file; single processes are the last. */
  class Processes {
    constructor() {
      this.node = byId("processes");
      this.clusters = new Keyed((process) => new ClusterSection(process));
      this.singles = new SinglesSection();
    }

    update(status) {
      const clusters = status.processes.filter(isCluster);
      const sections = this.clusters.of(clusters, (process) => process.id);
      sections.forEach((section, index) => section.update(clusters[index]));
      const singles = status.processes.filter((process) => !isCluster(process));
      this.singles.update(singles);
      arrange(this.node, [...sections.map((section) => section.node),
        ...(singles.length ? [this.singles.node] : [])]);
      this.tell(status);
    }

    /** How many the filter has found. */
    tell(status) {
      const members = [].concat(...status.processes.map((process) => process.members));
      setHidden(byId("tools"), members.length < 12 && !isFiltered());
      setText(byId("found"), isFiltered()
        ? whole(members.filter(isWanted).length) + " of " + counted(members.length, "instance")
        : "");
    }
  }

  // Time line

  /** States on the way to another: no line of their own once that is there. */
  const PASSING = ["created", "starting", "stopping"];
  const FAILURES = ["backoff", "errored", "exhausted"];
  /** Seconds within which the same change of several instances is one line. */
  const TOGETHER = 3;
  /** What the time line calls the pupgevent itself. */
  const OURSELVES = "pupgevent";

  /** What /history.json has told, the oldest first. */
  class History {
    constructor() {
      this.moments = [];
      this.began = null;
      this.number = 0;
    }

    /** Ask for what is new; whether there is anything. */
    async ask() {
      let answer = await askJson("history.json?after=" + this.number);
      const isAnother = answer.began !== this.began;
      if (isAnother) {
        if (this.number) {
          answer = await askJson("history.json?after=0");
        }
        this.began = answer.began;
        this.add({ number: 0, at: answer.began, process: OURSELVES, id: OURSELVES, state: "running",
                   text: "pupgevent was started" });
      }
      answer.moments.forEach((moment) => this.add(moment));
      this.number = answer.number;
      return isAnother || answer.moments.length > 0;
    }

    add(moment) {
      this.moments.push(Object.assign({ key: this.began + "/" + moment.number }, moment));
      if (this.moments.length > MOST_MOMENTS) {
        this.moments.shift();
      }
    }

    /** Changes as people tell them: without passing states, the same of several at once. */
    changes() {
      const latest = new Map(this.moments.map((moment) => [moment.id, moment]));
      const starts = new Map();
      const changes = [];
      for (const moment of this.moments) {
        if (moment.state === "starting") {
          starts.set(moment.id, moment.at);
        }
        if (PASSING.includes(moment.state) && latest.get(moment.id) !== moment) {
          continue;
        }
        const last = changes[changes.length - 1];
        if (last && isSameChange(last, moment)) {
          last.ids.push(moment.id);
        } else {
          changes.push(Object.assign({ ids: [moment.id], took: moment.state === "running"
            ? moment.at - starts.get(moment.id) : NaN }, moment));
        }
      }
      return changes;
    }

    /** For each process that had changes from then on: its moments, and the times in which an
     * instance failed or was starting. */
    byProcess(from, until) {
      const found = new Map();
      const unfinished = new Map();
      const of = (process) => {
        if (!found.has(process)) {
          found.set(process, { moments: [], times: [] });
        }
        return found.get(process);
      };
      const finish = (id, at) => {
        const time = unfinished.get(id);
        unfinished.delete(id);
        if (time && at >= from) {
          of(time.process).times.push(Object.assign({ until: at }, time));
        }
      };
      for (const moment of this.moments) {
        const { at, id, process } = moment;
        const isFailure = FAILURES.includes(moment.state);
        const time = unfinished.get(id);
        if (isOurs(moment)) {
          // Whatever ran before has ended with the pupgevent that ran it.
          Array.from(unfinished.keys()).forEach((each) => finish(each, at));
        } else if (!(time && time.isFailure && (isFailure || moment.state === "starting"))) {
          // A failure lasts through all starts until one succeeds.
          finish(id, at);
          if (isFailure || moment.state === "starting") {
            unfinished.set(id, { process, from: at, isFailure });
          }
        }
        if (at >= from) {
          of(process).moments.push(moment);
        }
      }
      Array.from(unfinished.keys()).forEach((id) => finish(id, until));
      return found;
    }
  }

  /** Is it the start of a pupgevent? Moments of instances are counted from 1. */
  function isOurs(moment) {
    return moment.number === 0;
  }

  function isSameChange(change, moment) {
    return !isOurs(change) && change.process === moment.process && change.state === moment.state &&
      change.text === moment.text && moment.at - change.at < TOGETHER &&
      !change.ids.includes(moment.id);
  }

  /** A line of the list of changes. */
  class Change {
    constructor(change) {
      this.badge = new Badge("span");
      this.who = make("th", "", { scope: "row" });
      this.text = make("td");
      this.ids = 0;
      const at = new Date(change.at * 1000);
      this.node = make("tr", "", {},
        make("td", "time", {}, make("time", "",
          { datetime: at.toISOString(), title: at.toLocaleString() }, clock(change.at, true))),
        this.who, make("td", "", {}, this.badge.node), this.text);
    }

    update(change) {
      this.badge.show(change.state);
      const text = clean(change.text);
      setText(this.text, !text && change.took > 0 ? "after " + brief(change.took) : text);
      if (change.ids.length !== this.ids) {
        this.ids = change.ids.length;
        this.who.replaceChildren(this.ids > 1
          ? counted(this.ids, "instance") + " of " + change.process
          : isOurs(change) ? change.id : this.name(change.id));
      }
    }

    name(id) {
      const button = make("button", "name", { type: "button" }, id);
      button.addEventListener("click", () => details.open(id));
      return button;
    }
  }

  /** Marks of a strip: by kind, the shape around 0 and what it is called. The first are on top. */
  const MARKS = {
    failure: ["M0-6.5l6 10.5h-12z", "failure"],
    started: ["M-1-10h2v20h-2z", "pupgevent started"],
    stopped: ["M-4-4h8v8h-8zM-2.4-2.4v4.8h4.8v-4.8z", "stopped"],
    running: ["M0-3.5a3.5 3.5 0 1 1 0 7a3.5 3.5 0 1 1 0-7z", "running"],
  };

  function markOf(moment) {
    if (isOurs(moment)) {
      return "started";
    }
    if (FAILURES.includes(moment.state)) {
      return "failure";
    }
    return { running: "running", finished: "running", stopped: "stopped" }[moment.state] || null;
  }

  /** The changes of one process on a line. */
  class Strip {
    constructor(process) {
      this.process = process;
      this.picture = draw("svg", "strip", { role: "img", width: "100%", height: 24 });
      this.node = make("div", "row", {}, make("span", "label", { title: process }, process),
        make("div", "frame", {}, this.picture));
    }

    update({ moments, times }, from, span) {
      const place = (at) => Math.max(0, Math.min(100, (at - from) / span * 100));
      const bars = times.map((time) => {
        const start = place(time.from);
        const width = Math.max(0.15, place(time.until) - start);
        return draw("rect", time.isFailure ? "period bad" : "period busy",
          { x: start.toFixed(2) + "%", y: 8, width: width.toFixed(2) + "%", height: 8 });
      });
      const marks = this.marks(moments, place);
      this.picture.replaceChildren(
        draw("rect", "track", { x: 0, y: 11, width: "100%", height: 2 }), ...bars, ...marks);
      const failures = moments.filter((moment) => FAILURES.includes(moment.state)).length;
      this.picture.setAttribute("aria-label", this.process + ": " + counted(failures, "failure") +
        " and " + counted(moments.length, "change") + " in the last " + duration(span));
    }

    /** One mark for all of a kind that would lie on each other. */
    marks(moments, place) {
      const found = new Map();
      for (const moment of moments) {
        const kind = markOf(moment);
        if (kind) {
          const key = kind + Math.round(place(moment.at) * 4);
          found.set(key, { kind, moment, count: (found.get(key) || { count: 0 }).count + 1 });
        }
      }
      const kinds = Object.keys(MARKS);
      return Array.from(found.values())
        .sort((one, other) => kinds.indexOf(other.kind) - kinds.indexOf(one.kind))
        .map(({ kind, moment, count }) => draw("svg", "mark " + kind,
          { x: place(moment.at).toFixed(2) + "%", y: 12, overflow: "visible" },
          draw("path", "", { d: MARKS[kind][0], "fill-rule": "evenodd" },
            draw("title", "", {}, this.tip(moment, count)))));
    }

    tip(moment, count) {
      return clock(moment.at, true) + " " + moment.id + " " + moment.state +
        (moment.text ? ": " + clean(moment.text) : "") +
        (count > 1 ? ", and " + whole(count - 1) + " more" : "");
    }
  }

  /** Strips of the last minutes, and below them the list. */
  class TimeLine {
    constructor() {
      this.history = new History();
      this.span = byId("span");
      this.strips = new Keyed(([process]) => new Strip(process));
      this.axis = make("div", "axis", { "aria-hidden": "true" },
        ...[0, 1, 2, 3, 4].map(() => make("span", "", {}, "")));
      this.changes = new Keyed((change) => new Change(change));
      this.drawnAt = -Infinity;
      this.signature = "";
      this.polls = 0;
      this.span.addEventListener("change", () => this.draw());
      byId("legend").append(...Object.keys(MARKS).map((kind) => make("span", "", {},
        draw("svg", "mark " + kind,
          { viewBox: "-8 -8 16 16", width: 16, height: 16, "aria-hidden": "true" },
          draw("path", "", { d: MARKS[kind][0], "fill-rule": "evenodd" })), MARKS[kind][1])));
    }

    /** After each status: ask for more where something has changed, and let the strips go on. */
    async follow(status) {
      const signature = status.pid + status.processes.map((process) => process.members.map(
        (member) => [member.id, member.state, member.pid, member.restarts].join(" "))).join();
      const isDue = signature !== this.signature || this.polls % HISTORY_EVERY === 0;
      this.polls += 1;
      if (isDue && await this.history.ask()) {
        this.list();
        this.draw();
      } else if (performance.now() - this.drawnAt > Number(this.span.value) * 2) {
        this.draw();
      }
      this.signature = signature;
    }

    draw() {
      this.drawnAt = performance.now();
      const span = Number(this.span.value);
      const until = nowUnix();
      const found = Array.from(this.history.byProcess(until - span, until));
      const shown = found.slice(0, MOST_STRIPS);
      const strips = this.strips.of(shown, ([process]) => process);
      strips.forEach((strip, index) => strip.update(shown[index][1], until - span, span));
      Array.from(this.axis.children).forEach((label, index) => {
        setText(label, index === 4 ? "now" : clock(until - span + span * index / 4));
      });
      arrange(byId("strips"), [...strips.map((strip) => strip.node),
        ...(strips.length ? [this.axis] : [])]);
      setHidden(byId("quiet"), strips.length > 0);
    }

    list() {
      const changes = this.history.changes().reverse().slice(0, MOST_CHANGES);
      const lines = this.changes.of(changes, (change) => change.key);
      lines.forEach((line, index) => line.update(changes[index]));
      arrange(byId("changes"), lines.map((line) => line.node));
    }
  }

  // Details

  const LOG_LINE = /^\[([^\]]*)\]((?:\[[^\]]*\])+) ?(.*)$/;

  /** A line of a log as it is shown: its time, which stream, its text. */
  function logLine(line) {
    const found = LOG_LINE.exec(line);
    if (!found) {
      return make("div", "line", {}, make("span", "text", {}, line));
    }
    const [, time, labels, text] = found;
    const stream = labels.slice(1, -1).split("][").pop();
    return make("div", "line " + (["stdout", "stderr"].includes(stream) ? stream : "own"), {},
      make("span", "time", { title: time }, time.replace(/^\S+ /, "")), " ",
      ...(stream === "stdout" ? [] : [make("span", "stream", {}, stream), " "]),
      make("span", "text", {}, text));
  }

  /** The last lines of an instance. Only what is new is added, so a selection stays. */
  class LogView {
    constructor() {
      this.node = byId("log");
      this.note = byId("log-note");
      this.count = byId("lines");
      this.lines = [];
      this.url = "";
      byId("wrap").addEventListener("change", (event) => {
        this.node.classList.toggle("wrap", event.target.checked);
      });
    }

    /** Begin with another instance, or another number of lines. */
    begin(id) {
      this.lines = [];
      this.node.replaceChildren();
      this.url = "logs/" + encodeURIComponent(id) + "?lines=" + this.count.value;
      byId("plain").href = this.url;
      this.tell("Loading");
    }

    tell(text) {
      setHidden(this.note, !text);
      setText(this.note, text);
    }

    async ask() {
      const url = this.url;
      let text;
      try {
        text = await ask(url);
      } catch (error) {
        if (url === this.url) {
          this.tell(error.status === 404 ? "There are no lines of it any more."
            : "The lines cannot be had now. What is shown is older.");
        }
        return;
      }
      if (url === this.url) {
        this.show(text.split("\n").slice(0, text.endsWith("\n") ? -1 : undefined));
      }
    }

    show(lines) {
      const isAtEnd = this.node.scrollTop + this.node.clientHeight >= this.node.scrollHeight - 8;
      const fresh = this.lines.length ? lines.slice(overlap(this.lines, lines)) : lines;
      this.node.append(...fresh.map((line) => logLine(clean(line))));
      this.lines = lines;
      this.tell(this.node.firstChild ? "" : "Nothing has been said yet.");
      // While somebody reads further up nothing moves: lines go only from the part that is long past.
      const most = isAtEnd ? lines.length : Math.max(lines.length, MOST_LOG_LINES);
      while (this.node.childElementCount > most) {
        this.node.firstChild.remove();
      }
      if (isAtEnd && fresh.length) {
        this.node.scrollTop = this.node.scrollHeight;
      }
    }
  }

  /** How many of the first new lines are the last old ones. */
  function overlap(old, fresh) {
    for (let first = 0; first < old.length; first += 1) {
      const length = old.length - first;
      if (length <= fresh.length && old[first] === fresh[0] &&
          old.slice(first).every((line, index) => line === fresh[index])) {
        return length;
      }
    }
    return 0;
  }

  /** What the dialog tells of an instance: a heading and a text, null where there is none. */
  const FACTS = [
    ["Since", (member) => duration(member.since) + ", " + clock(nowUnix() - member.since, true)],
    ["PID", (member) => member.pid],
    ["Port", (member) => member.port],
    ["Uptime", (member) => member.uptime === null ? null : duration(member.uptime)],
    ["Restarts", (member) => [whole(member.restarts), causesOf(member)].filter(Boolean).join(", ")],
    ["Last exit", (member) => member.lastExit],
    ["Connections", ({ backend }) => backend && !backend.http
      ? whole(backend.total) + " in all, " + whole(backend.open) + " open" : null],
    ["Requests", ({ backend }) => backend && backend.http
      ? whole(backend.total) + " in all, " + whole(backend.open) + " in flight" : null],
    ["Answers", ({ backend }) => backend && backend.http ? answersOf(backend.http) : null],
    ["Traffic", ({ backend }) => backend &&
      size(backend.bytesIn) + " in, " + size(backend.bytesOut) + " out"],
    ["TLS", (member, { balancer }) => balancer && balancer.tls ? tlsOf(balancer.tls) : null],
    ["Certificates", (member, { balancer }) => balancer && balancer.tls
      ? certificatesOf(balancer.tls) : null],
    ["Balancer", ({ backend }) => backend && backend.state + " for " + duration(backend.since)],
    ["Connect", ({ backend }) => backend && backend.connectTime !== null
      ? brief(backend.connectTime) : null],
    ["First byte", ({ backend }) => backend && backend.firstByteTime !== null
      ? brief(backend.firstByteTime) : null],
    ["Errors", ({ backend }) => backend && errorsOf(backend)],
    ["CPU", (member) => orNothing(member.cpu, percent)],
    ["Memory", (member) => orNothing(member.memory, size)],
  ];

  /** "TLS 1.2 or newer, 120 handshakes, 80 resumed, 4 failed": of all instances. */
  function tlsOf(tls) {
    return [
      tls.minVersion.replace("v", " ") + " or newer", counted(tls.handshakes, "handshake"),
      whole(tls.resumed) + " resumed", whole(tls.failed) + " failed",
    ].join(", ");
  }

  /** For whom each is, and when it expires. */
  function certificatesOf(tls) {
    return tls.certificates.map(({ names, expires }) => [
      names.slice(0, MOST_NAMED).join(", "),
      names.length > MOST_NAMED ? " and " + whole(names.length - MOST_NAMED) + " more" : "",
      ": ", expiryOf({ expires })[0]].join("")).join("; ");
  }

  /** Answers by class: "120 2xx, 3 5xx". */
  function answersOf(http) {
    return Object.keys(http.answers).filter((code) => http.answers[code])
      .map((code) => whole(http.answers[code]) + " " + code).join(", ") || "none yet";
  }

  /** What has gone wrong between the balancer and an instance: "2 connect errors, down once". */
  function errorsOf(backend) {
    const { connectErrors, retries, downs } = backend;
    return [
      connectErrors ? counted(connectErrors, "connect error") : "",
      retries ? whole(retries) + (retries === 1 ? " retry" : " retries") : "",
      downs ? "down " + (downs === 1 ? "once" : whole(downs) + " times") : "",
    ].filter(Boolean).join(", ") || "none";
  }

  /** The dialog about one instance. */
  class Details {
    constructor() {
      this.dialog = byId("details");
      this.title = byId("details-title");
      this.badge = new Badge("p");
      byId("details-state").replaceWith(this.badge.node);
      this.why = byId("details-why");
      this.facts = FACTS.map(([title, text]) => {
        const value = make("dd");
        return { text, value, node: make("div", "", {}, make("dt", "", {}, title), value) };
      });
      byId("facts").append(...this.facts.map((fact) => fact.node));
      this.charts = null;
      this.drawn = NO_CHARTS;
      this.log = new LogView();
      this.id = null;
      this.opener = null;
      byId("close").addEventListener("click", () => this.dialog.close());
      this.dialog.addEventListener("close", () => this.onClose());
      this.dialog.addEventListener("click", (event) => {
        if (event.target === this.dialog) {
          this.dialog.close();
        }
      });
      this.log.count.addEventListener("change", () => this.begin());
    }

    open(id) {
      this.opener = document.activeElement;
      this.id = id;
      setText(this.title, id);
      this.dialog.showModal();
      this.title.focus();
      this.begin();
      refresh();
    }

    /** Who was focused before is it again; the place of one that has gone is the page. */
    onClose() {
      this.id = null;
      this.dropCharts();
      const opener = this.opener;
      (opener && opener.isConnected ? opener : byId("main")).focus();
    }

    dropCharts() {
      if (this.charts) {
        this.charts.drop();
        this.charts.node.remove();
        this.charts = null;
      }
    }

    begin() {
      this.log.begin(this.id);
      this.log.ask();
    }

    /** After each status. */
    async follow() {
      if (this.id !== null) {
        await this.log.ask();
      }
    }

    update(status) {
      if (this.id === null) {
        return;
      }
      const process = status.processes.find(
        (each) => each.members.some((member) => member.id === this.id));
      if (!process) {
        this.badge.show("stopped");
        setHidden(this.why, false);
        setText(this.why, "There is no such instance any more.");
        return;
      }
      const member = process.members.find((each) => each.id === this.id);
      this.badge.show(wordOf(member));
      const why = whyOf(member, process);
      setHidden(this.why, !why);
      setText(this.why, why);
      for (const { text, value, node } of this.facts) {
        const told = text(member, process);
        setHidden(node, told === null || told === undefined);
        setText(value, String(told));
      }
      this.updateCharts(process, member);
    }

    updateCharts(process, member) {
      const { backend } = member;
      const names = backend && backend.http ? HTTP_CHARTS : backend ? TCP_CHARTS : NO_CHARTS;
      if (this.charts && this.drawn !== names) {
        this.dropCharts();
      }
      if (!this.charts) {
        this.drawn = names;
        this.charts = new Charts([...names, "cpu", "memory"]);
        byId("facts").after(this.charts.node);
      }
      this.charts.update(samples.loadOf(process.id, member.id));
    }
  }

  // Summary

  /** The sums at the top: a heading, the text, and whether it is of use. */
  const TOTALS = [
    ["Instances up", (sums) => whole(sums.up) + " of " + whole(sums.wanted)],
    ["Connections/s", () => orNothing(samples.sums.connections, decimal), (sums) => sums.tcp],
    ["Requests/s", () => orNothing(samples.sums.requests, decimal), (sums) => sums.http],
    ["5xx/s", () => orNothing(samples.sums.errors, decimal), (sums) => sums.http],
    ["Open", (sums) => whole(samples.sums.open)],
    ["In", (sums) => orNothing(samples.sums.bytesIn, sizeRate)],
    ["Out", (sums) => orNothing(samples.sums.bytesOut, sizeRate)],
    ["Restarts", (sums) => whole(sums.restarts)],
  ];
  /** Names of processes that are told at the top, and of each certificate. */
  const MOST_NAMED = 5;

  class Summary {
    constructor() {
      this.badge = new Badge("span");
      this.failing = make("span", "failing");
      byId("health").append(this.badge.node, this.failing);
      this.totals = TOTALS.map(([title, text, isOfUse]) => {
        const value = make("dd", "", {}, NOTHING);
        const node = make("div", "", {}, make("dt", "", {}, title), value);
        byId("totals").append(node);
        return { text, isOfUse, node, value };
      });
      this.told = null;
    }

    update(status) {
      setText(byId("name"), status.name);
      setText(byId("about"), "pupgevent " + status.version + " · pid " + status.pid + " · up " +
        duration(status.uptime));
      setAttribute(byId("about"), "title", status.config);
      const http = status.processes.some(hasHttp);
      const tcp = !http || status.processes.some((each) => each.balancer && !each.balancer.http);
      const sums = { up: 0, wanted: 0, restarts: 0, http, tcp };
      for (const process of status.processes) {
        sums.up += process.up;
        sums.wanted += process.wanted;
        for (const member of process.members) {
          sums.restarts += member.restarts;
        }
      }
      for (const { text, isOfUse, node, value } of this.totals) {
        setHidden(node, isOfUse !== undefined && !isOfUse(sums));
        setText(value, text(sums));
      }
      this.tellHealth(status);
    }

    tellHealth(status) {
      const word = status.state !== "running" ? status.state
        : status.healthy ? "healthy" : "unhealthy";
      this.badge.show(word);
      const failing = status.processes.filter((process) => !process.healthy);
      const told = word + failing.map((process) => "\n" + process.id + " " + process.state).join("");
      if (told === this.told) {
        return;
      }
      this.nameFailing(failing);
      const isFirst = this.told === null;
      this.told = told;
      document.title = status.name + ": " + word;
      if (!isFirst) {
        announce(status.name + " is " + word + (failing.length ? ": " + listed(failing.slice(
          0, MOST_NAMED).map((process) => process.id + " " + process.state)) : ""));
      }
    }

    /** Links to the processes that are not healthy. */
    nameFailing(failing) {
      const links = failing.slice(0, MOST_NAMED).map((process) => make("a", "",
        { href: isCluster(process) ? "#process-" + process.id : "#singles" }, process.id));
      const parts = [];
      links.forEach((link, index) => parts.push(index ? ", " : "", link));
      if (failing.length > links.length) {
        parts.push(" and " + whole(failing.length - links.length) + " more");
      }
      this.failing.replaceChildren(...parts);
    }
  }

  /** Tell it to screen readers. */
  function announce(text) {
    setText(byId("announced"), text);
  }

  // Polling

  /** No answer, or one that is none; with its HTTP status, 0 where there is none. */
  class NoAnswer extends Error {
    constructor(status) {
      super(status ? "HTTP status " + status : "no answer");
      this.status = status;
    }
  }

  /** The text of a path below this page; raises NoAnswer. */
  async function ask(path) {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), ANSWER_TIMEOUT);
    let response;
    try {
      response = await fetch(new URL(path, HERE), { cache: "no-store", signal: abort.signal });
      if (response.ok) {
        return await response.text();
      }
    } catch (error) {
      throw new NoAnswer(0);
    } finally {
      clearTimeout(timer);
    }
    throw new NoAnswer(response.status);
  }

  async function askJson(path) {
    return JSON.parse(await ask(path));
  }

  const processes = new Processes();
  const timeLine = new TimeLine();
  const details = new Details();
  const summary = new Summary();
  /** The last answer. */
  let latest = null;

  /** Show the last answer again, after something else has changed. */
  function refresh() {
    if (latest) {
      summary.update(latest);
      processes.update(latest);
      details.update(latest);
    }
  }

  /** Asks, one question at a time, as long as somebody sees the page. */
  class Polling {
    constructor() {
      this.timer = null;
      this.isAsking = false;
      this.failures = 0;
      this.answeredAt = null;
      this.lost = byId("lost");
      document.addEventListener("visibilitychange", () => this.wake());
      window.addEventListener("online", () => this.wake());
    }

    /** Ask now, unless it is being asked, or nobody looks. */
    wake() {
      clearTimeout(this.timer);
      if (!this.isAsking && !document.hidden) {
        this.turn();
      }
    }

    async turn() {
      this.isAsking = true;
      const began = performance.now();
      let wait = null;
      try {
        await this.once();
        this.failures = 0;
        this.found();
        const took = performance.now() - began;
        wait = Math.max(POLL_EVERY - took, Math.min(took * REST, POLL_SLOWEST));
      } catch (error) {
        this.failures += 1;
        this.miss(error);
        // Who is asked again for a password has to be asked by the browser.
        wait = error.status === 401 ? null : Math.min(POLL_EVERY * this.failures, POLL_SLOWEST);
      }
      this.isAsking = false;
      if (wait !== null && !document.hidden) {
        this.timer = setTimeout(() => this.wake(), wait);
      }
    }

    async once() {
      const status = await askJson("status.json");
      if (samples.take(status) || !latest) {
        latest = status;
        refresh();
      }
      this.answeredAt = nowUnix();
      await timeLine.follow(status);
      await details.follow();
    }

    found() {
      if (!this.lost.hidden) {
        this.lost.hidden = true;
        document.documentElement.classList.remove("stale");
        announce("Connected again");
      }
    }

    /** What is shown stays, and says of when it is. */
    miss(error) {
      if (!(error instanceof NoAnswer)) {
        console.error(error);
      }
      const isFirst = this.lost.hidden;
      this.lost.replaceChildren(...this.reason(error));
      this.lost.hidden = false;
      document.documentElement.classList.add("stale");
      if (isFirst) {
        announce(this.lost.textContent);
      }
    }

    reason(error) {
      const again = make("a", "", { href: location.pathname }, "Load the page again");
      if (!(error instanceof NoAnswer)) {
        return ["This page does not understand what pupgevent tells. ", again];
      }
      if (error.status === 401) {
        return ["pupgevent wants another token. ", again];
      }
      const why = error.status ? "pupgevent answers with status " + error.status
        : "No answer from pupgevent";
      return [this.answeredAt === null ? why + " yet. Trying again."
        : why + " since " + clock(this.answeredAt, true) +
          ". What is shown is of that time. Trying again."];
    }
  }

  byId("filter").addEventListener("input", (event) => {
    filter.text = event.target.value.trim().toLowerCase();
    refresh();
  });
  byId("failing").addEventListener("change", (event) => {
    filter.failing = event.target.checked;
    refresh();
  });
  new Polling().wake();
}());
