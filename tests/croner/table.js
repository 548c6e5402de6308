// Makes times.tsv: what croner, the library of Pup, gives as the next times of patterns.
//
//   npm install croner@9.0.0 later@npm:croner@10.0.1 && node table.js > times.tsv
//
// The second, newer version is asked for `W`, which the first has not. Nothing is random: the same
// versions make the same table, byte by byte.
const { Cron } = require("croner");
const { Cron: LaterCron } = require("later");

// Name, and the same rule as POSIX spells it, for a machine without a database of time zones.
const ZONES = [
  ["UTC", "UTC0"],
  ["Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3"],
  ["America/New_York", "EST5EDT,M3.2.0,M11.1.0"],
  ["Australia/Lord_Howe", "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"],
];

// Around both changes of the clocks in each zone, a leap day, the ends of months and of a year.
const STARTS = [
  "2024-02-28T22:59:59Z", "2024-03-30T23:10:07Z", "2024-03-31T00:44:30Z", "2024-03-31T01:00:00Z",
  "2024-10-26T21:59:59Z", "2024-10-27T00:29:59Z", "2024-10-27T02:00:00Z",
  "2024-03-10T04:59:59Z", "2024-03-10T06:40:00Z", "2024-11-03T03:59:59Z", "2024-11-03T05:31:11Z",
  "2024-10-05T12:00:00Z", "2024-10-05T15:14:59Z", "2024-04-06T12:59:59Z", "2024-04-06T14:40:00Z",
  "2024-12-31T22:59:59Z", "2025-02-28T12:34:56Z", "2026-06-30T23:59:59Z", "2027-12-31T12:00:00Z",
];

const BY_HAND = [
  "* * * * *", "* * * * * *", "*/2 * * * * *", "0/5 * * * * *", "*/20 * * * * *", "59 59 23 * * *",
  "0 0 * * *", "30 2 * * *", "15,45 2 * * *", "0 30 2 * * *", "30 2,3 * * *", "0 1-4 * * *",
  "*/15 * * * *", "*/15 1-3 * * *", "15 2 * * 0", "0 2 * 3 SUN#L", "30 1 * * *", "10,50 1,2 * * *",
  "0 0 L * *", "0 12 L 2 *", "0 0 1,L * *", "0 0 L,15 * *", "0 0 L * 5", "0 0 13 * 5", "0 0 13 * FRI",
  "0 0 29 2 *", "0 0 29-31 2 *", "0 0 31 * *", "0 0 30,31 2,4 *", "0 0 */1 * 1", "0 0 *,5 * 1",
  "0 0 * * MON#1", "0 0 * * 1#5", "0 0 * 2 MON#5", "0 0 * * FRI#L", "0 0 * * 5#L,1#2", "0 0 1 * MON#2",
  "0 0 * * 1-5#2", "0 0 * * 1,1#2", "0 0 * * 7", "0 0 * * 0", "0 0 * * 5-7", "0 0 * * 0-7",
  "0 0 * * SAT-SUN", "0 0 * * sun-sat", "0 0 * * Mon-Fri", "0 0 * * 1-7/2", "0 0 * * */2", "0 0 * * 0/3",
  "0 0 * * */2#1", "0 0 * * MON-SUN/3", "0 0 1 JAN *", "0 0 1 jan-dec/3 *", "0 0 1 FEB,aug *",
  "0 0 1 */5 *", "0 0 5/10 * *", "0 0 */31 * *", "*/60 * * * *", "0/59 * * * *", "59/2 * * * *",
  "*/7 * * * *", "/5 * * * *", "7,*/20 * * * *", "3,* * * * *", "1-5/2,50-59/3 * * * *", "001 02 * * *",
  "0 */24 * * *", "0 22-23,0-1 * * *", "0 9-17 * * MON-FRI", "*/10 8-18/2 1-15 * *", "*  *\t* * *",
  "0 0 1-1 * *", "0 0 1 12/1 *", "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly",
  " @Daily ", "30 59 23 L 12 *", "1 2 3 4 5 *", "1 2 3 4 5 6", "5 4 3 2 1 0", "0 0 0 1 1 MON#1",
];

// Numbers of a fixed sequence (Park and Miller).
let state = 20241027;
function below(limit) {
  state = (state * 48271) % 2147483647;
  return state % limit;
}

function item(least, most) {
  const from = least + below(most - least + 1);
  const to = from + below(most - from + 1);
  const step = 1 + below(most - least);
  return [`${from}`, `${from}`, `${from}-${to}`, `${from}-${to}/${step}`, `*/${step}`,
    `${from}/${step}`][below(6)];
}

function field(least, most, star) {
  if (below(10) < star) return "*";
  return Array.from({ length: 1 + below(3) }, () => item(least, most)).join(",");
}

function made() {
  const day = below(12) === 0 ? "L" : field(1, 31, 6);
  let weekday = field(0, 6, 6);
  if (weekday !== "*" && below(3) === 0) weekday = `${below(8)}#${"12345L"[below(6)]}`;
  const rest = [field(0, 59, 3), field(0, 23, 4), day, field(1, 12, 6), weekday];
  return (below(2) ? [field(0, 59, 2), ...rest] : rest).join(" ");
}

const WORKING_DAYS = [
  "0 0 LW * *", "0 0 1W * *", "0 0 15W * *", "0 0 31W * *", "0 0 30W 2,4 *", "0 0 1W,15W * *",
  "0 0 15W * MON", "0 0 10,31W * *",
];

// In February both versions take a 30th or 31st for a day of March, and leave out what is before it
// there (fixed in 11): they are asked once more, from the last second of the month.
function nextRun(Kind, pattern, from) {
  const next = new Kind(pattern).nextRun(from), end = new Date(from.getFullYear(), 2, 1) - 1000;
  const leaps = from.getMonth() === 1 && next !== null && next > end;
  return leaps ? new Kind(pattern).nextRun(new Date(end)) : next;
}

// Seconds from the start to the next time, and from there to the one after it.
function times(Kind, pattern, zone, start) {
  process.env.TZ = zone;
  const found = [];
  let from = new Date(start);
  for (let i = 0; i < 2; i++) {
    const next = nextRun(Kind, pattern, from);
    // What is no later is not to be compared: see cron_pattern.py.
    if (next === null || next <= from) break;
    found.push((next - from) / 1000);
    from = next;
  }
  return found.join("+") || "-";
}

function isOver(pattern, zone, start) {
  process.env.TZ = zone;
  const from = new Date(start), next = new Cron(pattern).nextRun(from);
  return next !== null && next <= from;
}

console.log(["version", "pattern", ...ZONES.flatMap(([, rule]) => STARTS.map((each) =>
  `${rule} ${Date.parse(each) / 1000}`))].join("\t"));
const patterns = [...new Set([...BY_HAND, ...Array.from({ length: 160 }, made)])];
for (const [version, Kind, those] of [["9.0.0", Cron, patterns], ["10.0.1", LaterCron, WORKING_DAYS]]) {
  for (const pattern of those) {
    if (new Kind(pattern).nextRun() === null) continue;
    const cells = ZONES.flatMap(([zone]) => STARTS.map((start) =>
      isOver("* * * * * *", zone, start) ? "" : times(Kind, pattern, zone, start)));
    console.log([version, JSON.stringify(pattern), ...cells].join("\t"));
  }
}
