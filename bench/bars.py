"""What pupgevent has to reach, as ratios to another's figure in the same run."""

from typing import NamedTuple, Optional


class Bar(NamedTuple):
    case: str
    figure: str
    #: The way whose figure is 1; None where the limit is told in seconds.
    to: Optional[str]
    at_least: Optional[float] = None
    at_most: Optional[float] = None

    def is_met(self, value: float) -> bool:
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is None or value <= self.at_most

    @property
    def limit(self) -> str:
        if self.at_least is not None:
            return "≥ %g" % self.at_least
        return "≤ %g" % (self.at_most or 0)


BARS = (
    Bar("keep-alive-1", "p50", "nginx", at_most=1.1),
    Bar("keep-alive-1", "p50", "haproxy", at_most=1.15),
    Bar("keep-alive-64", "rate", "nginx", at_least=1.0),
    Bar("keep-alive-64", "rate", "haproxy", at_least=1.0),
    Bar("keep-alive-1500", "rate", "nginx", at_least=1.1),
    Bar("keep-alive-1500", "rate", "haproxy", at_least=1.1),
    Bar("close", "rate", "nginx", at_least=1.0),
    Bar("close", "rate", "haproxy", at_least=0.95),
    Bar("100k", "rate", "nginx", at_least=1.15),
    Bar("100k", "rate", "haproxy", at_least=1.15),
    Bar("10m", "rate", "nginx", at_least=1.7),
    Bar("10m", "rate", "haproxy", at_least=1.4),
    Bar("10m", "cpu", "nginx", at_most=0.4),
    Bar("10m", "cpu", "haproxy", at_most=0.5),
    Bar("upload", "rate", "nginx", at_least=1.7),
    Bar("upload", "rate", "haproxy", at_least=1.4),
    Bar("upload", "cpu", "nginx", at_most=0.4),
    Bar("upload", "cpu", "haproxy", at_most=0.5),
    Bar("memory", "memory", "nginx", at_most=0.35),
    Bar("memory", "memory", "haproxy", at_most=1.0),
    Bar("start", "start", None, at_most=0.5),
    Bar("http-keep-alive-64", "rate", "nginx", at_least=1.0),
    Bar("http-keep-alive-64", "cpu", "nginx", at_most=1.1),
    Bar("http-close", "rate", "nginx", at_least=0.85),
    Bar("http-close", "cpu", "nginx", at_most=1.3),
    Bar("http-100k", "cpu", "nginx", at_most=0.5),
    Bar("http-10m", "cpu", "nginx", at_most=0.35),
    Bar("http-upload", "cpu", "nginx", at_most=0.6),
    *(Bar("%s-%s" % (protocol, case), "cpu", to, at_most=limit)
      for protocol in ("tls", "https") for case, to, limit in (
          ("keep-alive-64", "nginx", 1.15), ("100k", "nginx", 0.9), ("10m", "nginx", 0.9),
          ("handshake", "haproxy", 1.0), ("resumed", "nginx", 1.3), ("resumed-1.2", "nginx", 1.3))),
)
