"""`pupgevent export haproxy`: HAProxy in front of machines that each run this configuration."""

import hashlib
import os
from typing import List, Sequence

import validators
from front_export import (
    COMPRESSED,
    KEEP_ALIVE,
    NEVER,
    SILENCE,
    SILENCE_COUNT,
    SILENCE_EVERY,
    Front,
    Section,
    Server,
    comment,
    down_interval,
    fast_interval,
    front,
    milliseconds,
)
from fronts import AGENT_INTERVAL
from model import Configuration
from tls_files import CIPHERS

#: The weight of each server. The agent says per cent of it, and of 1 there is no half.
_WEIGHT = 100

_HEADER = """\
# HAProxy in front of pupgevent, made by `pupgevent export haproxy`. It is a whole haproxy.cfg, for
# HAProxy 2.4 or newer. Make it anew when the configuration changes in its clusters.
#   haproxy -c -f FILE && systemctl reload haproxy
"""

_GLOBAL = """
global
    log /dev/log local0
    user haproxy
    group haproxy
    # What it thinks of each server: echo "show stat" | socat - /run/haproxy/admin.sock
    #stats socket /run/haproxy/admin.sock mode 660 level admin

defaults
    log global
    option dontlognull
    option splice-auto
    # A server that cannot be reached is left for another one, at once.
    option redispatch 1
    retries 3
    # A machine that is gone does not say so: its connections end within seconds all the same.
    option clitcpka
    option srvtcpka
    srvtcpka-idle {silence}s
    srvtcpka-intvl {every}s
    srvtcpka-cnt {count}
"""

_BALANCE = {
    "round-robin": ["balance roundrobin"],
    "least-connections": ["balance leastconn"],
    "least-time": ["balance leastconn"],
    "ip-hash": ["balance source", "hash-type consistent sdbm avalanche"],
    "cookie": ["balance roundrobin"],
}

#: What may be repeated on another server without doing it twice.
_RETRIES = """\
    # What may be repeated is, where a server has gone before its answer; nothing else.
    retry-on conn-failure empty-response
    http-request disable-l7-retry unless { method GET HEAD OPTIONS }
"""

_FORWARDED = """\
    # Who the client is; what it says of that itself does not count.
    http-request del-header X-Forwarded-For
    http-request del-header Forwarded
    http-request del-header X-Real-IP
    http-request del-header Client-Cert
    http-request del-header Client-Cert-Chain
    option forwardfor
    http-request set-header X-Forwarded-Proto https if { ssl_fc }
    http-request set-header X-Forwarded-Proto http unless { ssl_fc }
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Forwarded-Port %[dst_port]
"""

#: As pupgevent has it where TLS ends there (RFC 9440).
_CLIENT_CERT = """\
    http-request set-header Client-Cert :%[ssl_c_der,base64]: if { ssl_c_used }
"""

#: Megabytes of all, bytes of one, and seconds, where an answer does not say less.
_CACHE = """
cache {name}
    total-max-size 64
    max-object-size 1000000
    max-age 600
    process-vary on
"""

_CACHING = """\
    # Answers that say that they may be kept (Cache-Control) are.
    http-request cache-use {name} unless {{ req.hdr(authorization) -m found }}
    http-response cache-store {name}
"""

_COMPRESSION = """\
    compression algo gzip
    compression type {types}
"""


def haproxy(configuration: Configuration, hosts: Sequence[str], http: bool) -> str:
    """A whole haproxy.cfg; raises ConfigurationError where no cluster has ports."""
    found = front(configuration, hosts, http, "haproxy")
    parts = [_HEADER, *_about_agent(found), _GLOBAL.format(
        silence=SILENCE, every=SILENCE_EVERY, count=SILENCE_COUNT)]
    for section in found.sections:
        if section.http and http:
            parts.append(_CACHE.format(name=section.name))
        parts.append(_listen(found, section, http))
    return "".join(parts)


def _about_agent(found: Front) -> "List[str]":
    agent = found.agent
    if agent is None:
        text = ("Without [agent] in the configuration HAProxy finds out by itself that a server is"
                " gone, and not before it stops.")
    elif found.remote and validators.is_loopback(agent.host):
        text = ("The agent of each machine listens on %s, which only that machine reaches: set host"
                " in [agent] to 0.0.0.0, and let only this machine through." % agent.host)
    else:
        return []
    return ["#\n", *(line + "\n" for line in comment(text))]


def _listen(found: Front, section: Section, http: bool) -> str:
    lines = ["", *(line for text in section.remarks for line in comment(text))]
    lines += ["listen %s" % section.name, *_bind(section)]
    lines.append("    mode %s" % ("http" if section.http else "tcp"))
    lines.append("    option %slog" % ("http" if section.http else "tcp"))
    lines += ["    " + each for each in _balance(section)]
    lines += ["    " + each for each in _timeouts(section)]
    text = "\n".join(lines) + "\n"
    if section.http:
        text += _FORWARDED
        if section.cluster.tls is not None and section.cluster.tls.client_ca is not None:
            text += _CLIENT_CERT
        text += _RETRIES + "    http-reuse safe\n"
        if http:
            text += _CACHING.format(name=section.name)
            text += _COMPRESSION.format(types=" ".join(COMPRESSED))
    lines = ["    " + each for each in _checks(found, section)]
    lines += [_server(found, section, each) for each in section.servers]
    return text + "\n".join(lines) + "\n"


def _bind(section: Section) -> "List[str]":
    everywhere = ":::%d v4v6" if section.cluster.common_host == "::" else "*:%d"
    words = "    bind " + everywhere % section.port
    tls = section.cluster.tls
    if tls is None or not section.tls_at_front:
        return [words]
    words += " ssl"
    commands = []
    for number, pair in enumerate(tls.pairs, 1):
        path = pair.cert
        if pair.key != pair.cert:
            # No other section has a name with a plus sign.
            name = section.name if number == 1 else "%s+%d" % (section.name, number)
            path = os.path.join(os.path.dirname(pair.cert), name + ".haproxy.pem")
            commands.append("    #   umask 077; cat %s %s > %s" % tuple(
                map(_quoted, (pair.cert, pair.key, path))))
        # The first is for clients that name no host, or an unknown one.
        words += " crt " + _quoted(path)
    words += " ssl-min-ver %s ciphers %s" % (tls.min_version, _quoted(tls.ciphers or CIPHERS))
    if tls.client_ca is not None:
        words += " ca-file %s verify required" % _quoted(tls.client_ca.path)
    if section.http:
        words += " alpn h2,http/1.1"
    if commands:
        commands = comment("HAProxy wants certificate and key in one file, which only root should"
                           " be able to read. Do this again when they are renewed:",
                           "    ") + commands
    return [*commands, words]


def _balance(section: Section) -> "List[str]":
    strategy = section.cluster.strategy
    if strategy != "cookie":
        return _BALANCE[strategy]
    if not section.http:
        return _BALANCE["ip-hash"]
    secure = " secure" if section.tls_at_front else ""
    return [*_BALANCE[strategy],
            'cookie pupgevent-%s-server insert indirect nocache httponly%s attr "SameSite=Lax"' % (
                section.name, secure)]


def _timeouts(section: Section) -> "List[str]":
    cluster = section.cluster
    idle, half = cluster.idle_timeout or NEVER, cluster.half_close_timeout or NEVER
    times = [
        ("connect", cluster.connect_timeout), ("queue", max(0.001, cluster.queue_timeout)),
        ("check", section.health.timeout), ("server", section.answer_timeout), ("client", idle),
        ("client-fin", half), ("server-fin", half),
    ]  # fmt: skip
    if section.http:
        times += [("http-request", cluster.head_timeout),
                  ("http-keep-alive", min(KEEP_ALIVE, idle)), ("tunnel", idle)]
    return ["timeout %s %s" % (name, milliseconds(seconds)) for name, seconds in times]


def _checks(found: Front, section: Section) -> "List[str]":
    """How servers are watched: `default-server`, and what it refers to."""
    health, lines = section.health, []
    if health.path is not None:
        lines += ["option httpchk", "http-check send meth GET uri %s hdr Host %s" % (
            _quoted(health.path), section.name), "http-check expect rstatus ^[23]"]
    words = ["weight %d check" % _WEIGHT, "inter " + milliseconds(health.interval),
             "fastinter " + milliseconds(fast_interval(health)),
             "downinter " + milliseconds(down_interval(health)),
             "rise %d fall %d" % (health.rise, health.fall),
             # Data that nobody confirms is that of a machine that is gone.
             "tcp-ut %ds" % (SILENCE + SILENCE_EVERY * SILENCE_COUNT)]
    if section.most:
        words.append("maxconn %d" % section.most)
    if section.external and section.cluster.slow_start:
        words.append("slowstart " + milliseconds(section.cluster.slow_start))
    if section.http:
        words.append("pool-max-conn %d" % section.cluster.keep_upstream)
    if section.announces:
        words.append("send-proxy check-send-proxy" if section.announces == "v1"
                     else "send-proxy-v2 check-send-proxy")
        if section.announces == "v2" and section.tls_at_front:
            # As pupgevent tells of TLS that has ended there.
            words.append("proxy-v2-options ssl,cert-cn,ssl-cipher,authority")
    if section.tls_behind:
        lines += _about_servers(section)
        words.append("ssl verify none")
        if section.machine_name:
            # A check uses TLS as well, and by itself.
            words.append("sni str(%s) check-sni %s" % ((section.machine_name,) * 2))
    if found.agent is not None:
        words.append("agent-check agent-port %d agent-inter %s" % (
            found.agent.port, milliseconds(AGENT_INTERVAL)))
    return [*lines, "default-server " + " ".join(words)]


def _about_servers(section: Section) -> "List[str]":
    """Comments on what nobody but the user knows of TLS with the machines."""
    lines = []
    if section.machine_name:
        lines += comment("To verify certificates of the machines, write `verify required ca-file"
                         " FILE` in place of `verify none`; FILE has their CA. They have to be for"
                         " %s." % section.machine_name)
    tls = section.cluster.tls
    if tls is not None and tls.client_ca is not None:
        lines += comment("The machines answer nobody without a certificate: add `crt FILE`, with"
                         " the certificate and its key.")
    return lines


def _server(found: Front, section: Section, server: Server) -> str:
    words = ["    server %s %s" % (server.name, server.address)]
    if found.agent is not None:
        words.append('agent-send "%s\\n"' % server.asked)
    if section.cluster.strategy == "cookie" and section.http:
        # Not its name, and yet the same in each export.
        secret = "%s %s %s" % (found.configuration.name, section.name, server.address)
        words.append("cookie " + hashlib.sha256(secret.encode()).hexdigest()[:16])
    return " ".join(words)


def _quoted(word: str) -> str:
    """As HAProxy reads it: within strong quotes nothing is special."""
    return "'%s'" % word.replace("'", "'\\''") if set(word) & set(" '\"\\#$") else word
