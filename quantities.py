"""Numbers as people read them: counts, sizes, durations, rates, each in a few characters."""


def count(value: int) -> str:
    """Four digits, and in thousands beyond."""
    return str(value) if value < 10000 else _scaled(value, 1000, "kMGT")


def size(value: int) -> str:
    """Bytes, in units of 1024."""
    return str(value) if value < 1024 else _scaled(value, 1024, "KMGTP")


def _scaled(value: float, base: int, units: str) -> str:
    unit = 0
    value /= base
    while value >= base - 0.5 and unit + 1 < len(units):
        value /= base
        unit += 1
    return "%.*f%s" % (value < 9.95, value, units[unit])


def rate(value: float) -> str:
    """How many a second: one that is not nothing does not look so."""
    if value >= 9.95 or value == 0:
        return count(int(value + 0.5))
    return "%.1f" % value if value >= 0.1 else "<0.1"


def duration(seconds: float) -> str:
    """The two largest units that there are."""
    whole = int(seconds)
    for unit, name, smaller, small_name in (
        (86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"),
    ):  # fmt: skip
        if whole >= unit:
            return "%d%s%02d%s" % (whole // unit, name, whole % unit // smaller, small_name)
    return "%ds" % whole


def short_time(seconds: float) -> str:
    """Of a connect or an answer: "0.04ms", "0.4ms", "12ms", "1.5s"."""
    if seconds >= 0.9995:
        return "%.*fs" % (seconds < 9.95, seconds)
    return "%.*fms" % ((seconds < 0.00995) + (seconds < 0.000095), seconds * 1000)


def percent(share: float) -> str:
    return "%.0f%%" % (share * 100)
