"""How a message counts: "1 instance", "2 instances"."""


def counted(number: int, noun: str) -> str:
    """A number with its noun, which takes an s from two on, and with none at all."""
    return "%d %s%s" % (number, noun, "" if number == 1 else "s")
