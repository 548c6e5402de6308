"""`pupgevent export prometheus`: alert rules, and how Prometheus scrapes this pupgevent.

One command makes one file, and `promtool check rules` takes it as it is. So the file has the rules,
and before them, as comments, the lines for prometheus.yml. It is YAML, written without a library:
names are of letters, digits and @ . _ -, and all other text stands in blocks, where nothing needs
quotes.
"""

import re
import socket
import textwrap
from typing import Iterable, List

import alert_rules
import validators
from alert_rules import Rule
from errors import ConfigurationError
from model import Configuration, Dashboard
from unit_syntax import unit_name

#: Where Debian's package has its configuration.
_FOLDER = "/etc/prometheus"

#: Longest line of text, in characters.
_WIDTH = 98

_HEADER = """\
# Alert rules for Prometheus, made by `pupgevent export prometheus`. Put them into the file that
# rule_files names below. Make them anew when the configuration changes in its processes, their
# limits or their time-outs.
#
# These lines are for prometheus.yml, without the # in front. If it has rule_files and
# scrape_configs already, add to them. The rules are about the job of this name.
#
#rule_files:
#  - "{folder}/{job}.rules.yml"
#
#scrape_configs:
#  - job_name: "{job}"
#    scrape_interval: 15s
{authorization}\
#    static_configs:
{remark}\
#      - targets: ["{target}"]

groups:
  - name: "{job}"
    rules:
"""

_AUTHORIZATION = """\
#    authorization:
#      # The `token` of [dashboard] and nothing else. Only Prometheus should be able to read it.
#      credentials_file: "{folder}/{job}.token"
"""

_LOOPBACK = """\
#      # For a Prometheus on this machine. One elsewhere needs `host` and `token` in [dashboard].
"""

_WILDCARD = """\
#      # A name or an address at which Prometheus reaches this machine; 127.0.0.1 if it runs here.
"""


def prometheus(configuration: Configuration) -> str:
    """The file; raises ConfigurationError where no metrics are served."""
    if configuration.dashboard is None:
        reason = "export prometheus: there is no [dashboard]: add it with a port"
        raise ConfigurationError(configuration.path, None, reason)
    job = job_name(configuration)
    rules = alert_rules.rules(configuration, job)
    return _header(configuration.dashboard, job) + "\n".join(map(_yaml, rules))


def job_name(configuration: Configuration) -> str:
    """`pupgevent-NAME`: there may be several, and the applications may have jobs of their own."""
    name = unit_name(configuration.name)
    return name if name == "pupgevent" else "pupgevent-" + name


def _header(dashboard: Dashboard, job: str) -> str:
    host, remark = dashboard.host, ""
    if validators.is_loopback(host):
        remark = _LOOPBACK
    elif host in ("0.0.0.0", "::"):
        host, remark = _own_name(), _WILDCARD
    target = "%s:%d" % ("[%s]" % host if ":" in host else host, dashboard.port)
    authorization = _AUTHORIZATION.format(folder=_FOLDER, job=job) if dashboard.token else ""
    return _HEADER.format(
        folder=_FOLDER, job=job, authorization=authorization, remark=remark, target=target)


def _own_name() -> str:
    """Of this machine; the kernel takes any text for it."""
    name = socket.gethostname()
    return name if re.match(r"[A-Za-z0-9._-]+\Z", name) else "localhost"


def _yaml(rule: Rule) -> str:
    lines = ["      - alert: " + rule.name, "        expr: |-"]
    lines += _indented(rule.expr.splitlines())
    if rule.lasting:
        lines.append("        for: " + alert_rules.duration(rule.lasting))
    lines += ["        labels:", "          severity: " + rule.severity]
    if rule.threshold:
        lines.append('          threshold: "%s"' % rule.threshold)
    lines.append("        annotations:")
    for name, text in (("summary", rule.summary), ("description", rule.description)):
        lines.append("          %s: >-" % name)
        lines += _indented(textwrap.wrap(text, _WIDTH - 12, break_long_words=False), "  ")
    return "".join(line + "\n" for line in lines)


def _indented(lines: "Iterable[str]", more: str = "") -> "List[str]":
    return ["          %s%s" % (more, line) for line in lines]
