"""`pupgevent export nginx`: NGINX in front of machines that each run this configuration."""

from typing import List, NamedTuple, Sequence

from front_export import (
    COMPRESSED,
    KEEP_ALIVE,
    NEVER,
    SILENCE,
    SILENCE_COUNT,
    SILENCE_EVERY,
    Front,
    Section,
    comment,
    front,
    host_names,
    milliseconds,
    variable,
)
from model import Configuration, Tls, TlsPair
from tls_files import CIPHERS
from unit_syntax import unit_name

#: Seconds for which a server that has failed gets no client.
_FAIL_TIMEOUT = 2

_HEADER = """\
# NGINX in front of pupgevent, made by `pupgevent export nginx`. It is a whole nginx.conf, for NGINX
# 1.21.4 or newer{module}. Make it anew when the configuration changes in its clusters.
#   nginx -t -c FILE && systemctl reload nginx
#
# NGINX finds out that a server is gone when a client is to be sent there; it then takes the next.
# It asks no agent. That a machine is gone without a word, it learns from the kernel, whose times
# are long. These are short (in /etc/sysctl.d):
#   net.ipv4.tcp_keepalive_time = {silence}
#   net.ipv4.tcp_keepalive_intvl = {every}
#   net.ipv4.tcp_keepalive_probes = {count}
#   net.ipv4.tcp_retries2 = 5

worker_processes auto;
worker_rlimit_nofile 65536;
include /etc/nginx/modules-enabled/*.conf;

events {{
    worker_connections 16384;
}}
"""

_HTTP = """
http {
    access_log /var/log/nginx/access.log;
    server_tokens off;
    tcp_nodelay on;
    variables_hash_max_size 8192;
    # The longest name of a host has room.
    server_names_hash_bucket_size 512;
    server_names_hash_max_size 4096;

    map $http_upgrade $pupgevent_connection {
        default upgrade;
        "" "";
    }
"""

_STREAM = """
stream {
    # The longest name of a host has room.
    map_hash_bucket_size 512;

"""

_COMPRESSION = """
    gzip on;
    gzip_proxied any;
    gzip_vary on;
    gzip_min_length 1000;
    gzip_types {types};
"""

_CACHE = """
    proxy_cache_path /var/cache/nginx-{folder} levels=1:2 keys_zone={zone}:10m
                     max_size=1g inactive=1h use_temp_path=off;
"""

_CACHING = """\
            # Answers that say that they may be kept (Cache-Control) are.
            proxy_cache {zone};
            proxy_cache_key $scheme$host$request_uri;
            proxy_cache_lock on;
            proxy_cache_revalidate on;
            proxy_cache_use_stale error timeout updating http_502 http_503 http_504;
            proxy_cache_bypass $http_authorization;
            proxy_no_cache $http_authorization;
            add_header X-Cache-Status $upstream_cache_status;
"""

#: As they come: what streams is not held up.
_STREAMING = """\
            proxy_buffering off;
            proxy_request_buffering off;
"""

_LOCATION = """\
        location / {{
            proxy_pass {scheme}://{name};
            proxy_http_version 1.1;
            proxy_set_header Connection $pupgevent_connection;
            proxy_set_header Upgrade $http_upgrade;
            # Who the client is; what it says of that itself does not count.
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Port $server_port;
            proxy_set_header X-Real-IP "";
            proxy_set_header Forwarded "";
            proxy_set_header Client-Cert "";
            proxy_set_header Client-Cert-Chain "";
            # What may be repeated is, where a server has gone before its answer; nothing else.
            proxy_next_upstream error timeout;
            proxy_next_upstream_tries {tries};
            proxy_socket_keepalive on;
            proxy_connect_timeout {connect};
            proxy_read_timeout {answer};
            proxy_send_timeout {answer};
{more}\
        }}
"""

_STICKY = """
    # Clients come back to their server by a cookie, as long as the servers are the same.
    map $cookie_{name} ${name}_key {{
        default $cookie_{name};
        "" $request_id;
    }}
    map $cookie_{name} ${name}_set {{
        default "";
        "" "{name}=$request_id; Path=/; HttpOnly; SameSite=Lax{secure}";
    }}
"""


def nginx(configuration: Configuration, hosts: Sequence[str], http: bool) -> str:
    """A whole nginx.conf; raises ConfigurationError where no cluster has ports."""
    found = front(configuration, hosts, http, "nginx")
    web = [each for each in found.sections if each.http]
    streams = [each for each in found.sections if not each.http]
    text = _HEADER.format(
        silence=SILENCE, every=SILENCE_EVERY, count=SILENCE_COUNT,
        module=" with its stream module (Debian: libnginx-mod-stream)" if streams else "")
    if web:
        text += _HTTP
        if http:
            text += _COMPRESSION.format(types=" ".join(COMPRESSED))
        text += "".join(_web(found, each, http) for each in web) + "}\n"
    if streams:
        text += _STREAM + "\n".join(map(_stream, streams)) + "}\n"
    return text


def _variable(section: Section) -> str:
    return "pupgevent_" + variable(section.name)


def _upstream(section: Section) -> "List[str]":
    lines = [line for text in section.remarks for line in comment(text, "    ")]
    lines += ["    upstream %s {" % section.name, "        zone %s 256k;" % section.name]
    strategy = section.cluster.strategy
    if strategy in ("least-connections", "least-time"):
        lines.append("        least_conn;")
    elif strategy == "cookie" and section.http:
        lines.append("        hash $%s_key consistent;" % _variable(section))
    elif strategy in ("ip-hash", "cookie"):
        lines.append("        hash $remote_addr consistent;")
    most = " max_conns=%d" % section.most if section.most else ""
    for server in section.servers:
        lines.append("        server %s max_fails=1 fail_timeout=%ds%s;" % (
            server.address, _FAIL_TIMEOUT, most))
    if section.http and section.cluster.keep_upstream:
        lines.append("        keepalive %d;" % section.cluster.keep_upstream)
    return [*lines, "    }"]


class _Choice(NamedTuple):
    """A certificate, and the hosts that it is chosen for."""

    pair: TlsPair
    names: List[str]


def _choices(tls: Tls) -> List[_Choice]:
    """Each name once, at the first that has it. One that is left without is never chosen, unless it
    is the first of all."""
    taken: List[str] = []
    choices: List[_Choice] = []
    for pair in tls.pairs:
        names = [each for each in dict.fromkeys(host_names(pair)) if each not in taken]
        taken += names
        if names or not choices:
            choices.append(_Choice(pair, names))
    return choices


def _listen(section: Section) -> "List[str]":
    """The beginning of a server."""
    secure = " ssl" if section.tls_at_front else ""
    if secure and section.http:
        secure += " http2"
    lines = ["    server {", "        listen %d%s;" % (section.port, secure)]
    if section.cluster.common_host == "::":
        lines.append("        listen [::]:%d%s;" % (section.port, secure))
    return lines


def _tls(tls: Tls, cert: str, key: str) -> "List[str]":
    lines = ["        ssl_certificate %s;" % cert, "        ssl_certificate_key %s;" % key,
             "        ssl_protocols %s;" % _versions(tls),
             "        ssl_ciphers %s;" % _quoted(tls.ciphers or CIPHERS)]
    if tls.client_ca is not None:
        # Chains are as long as they are, as with pupgevent; NGINX would take one certificate.
        lines += ["        ssl_client_certificate %s;" % _quoted(tls.client_ca.path),
                  "        ssl_verify_client on;", "        ssl_verify_depth 100;"]
    return lines


def _versions(tls: Tls) -> str:
    return {"TLSv1.2": "TLSv1.2 TLSv1.3"}.get(tls.min_version, tls.min_version)


def _machine_tls(section: Section) -> "List[str]":
    """How TLS is spoken to the machines."""
    tls, indent = section.cluster.tls, " " * 12
    if tls is None or not section.tls_behind:
        return []
    # NGINX before 1.23.4 would not speak 1.3 to them.
    lines = [indent + "proxy_ssl_protocols %s;" % _versions(tls)]
    if section.machine_name:
        lines += [indent + "proxy_ssl_server_name on;",
                  indent + "proxy_ssl_name %s;" % section.machine_name,
                  *comment("To verify their certificates, which have to be for that name; FILE has"
                           " their CA:", indent),
                  indent + "#proxy_ssl_verify on;",
                  indent + "#proxy_ssl_verify_depth 100;",
                  indent + "#proxy_ssl_trusted_certificate FILE;"]
    if tls.client_ca is not None:
        lines += [*comment("The machines answer nobody without a certificate:", indent),
                  indent + "#proxy_ssl_certificate FILE;",
                  indent + "#proxy_ssl_certificate_key FILE;"]
    return lines


def _web(found: Front, section: Section, http: bool) -> str:
    cluster, name = section.cluster, _variable(section)
    idle = cluster.idle_timeout or NEVER
    text, more = "\n", _STREAMING
    if cluster.strategy == "cookie":
        text += _STICKY.lstrip("\n").format(
            name=name, secure="; Secure" if section.tls_at_front else "")
    if http:
        folder = unit_name("%s-%s" % (found.configuration.name, section.name))
        text += _CACHE.lstrip("\n").format(zone=name, folder=folder)
        more = _CACHING.format(zone=name)
    if cluster.strategy == "cookie":
        more += "            add_header Set-Cookie $%s_set;\n" % name
    lines = _upstream(section)
    if section.announces:
        lines += comment("NGINX announces clients in PROXY headers in its stream module only, and"
                         " %s of this wants them: use export haproxy." % section.process.id, "    ")
    if section.health.path is not None:
        lines += comment("NGINX has no active checks: GET %s is not asked for." %
                         section.health.path, "    ")
    if cluster.tls is not None and cluster.tls.client_ca is not None and section.tls_at_front:
        lines += comment("NGINX cannot tell who the client is as pupgevent does (Client-Cert): add"
                         " proxy_set_header with $ssl_client_s_dn or $ssl_client_escaped_cert, and"
                         " a name that the application reads.", "    ")
    more += "".join(line + "\n" for line in _machine_tls(section))
    body = ["        client_max_body_size 0;",
            "        client_header_timeout %s;" % milliseconds(cluster.head_timeout),
            "        keepalive_timeout %s;" % milliseconds(min(KEEP_ALIVE, idle))]
    location = _LOCATION.format(
        scheme="https" if section.tls_behind else "http", name=section.name,
        tries=min(len(section.servers), 4), connect=milliseconds(cluster.connect_timeout),
        answer=milliseconds(section.answer_timeout), more=more) + "    }\n"
    servers = ["\n".join([*begin, *body]) + "\n" + location for begin in _web_servers(section)]
    return text + "\n".join(lines) + "\n" + "\n".join(servers)


def _web_servers(section: Section) -> "List[List[str]]":
    """How they begin: one for each certificate, of which NGINX chooses by SNI. The first is for
    clients that name no host, or an unknown one."""
    tls = section.cluster.tls
    if tls is None or not section.tls_at_front:
        return [_listen(section)]
    begins = []
    choices = _choices(tls)
    for pair, names in choices:
        lines = _listen(section)
        if len(choices) > 1 and names:
            lines.append("        server_name %s;" % " ".join(names))
        begins.append(lines + _tls(tls, _quoted(pair.cert), _quoted(pair.key)))
    return begins


def _stream(section: Section) -> str:
    cluster = section.cluster
    lines = _upstream(section)
    if section.announces == "v2":
        lines += comment("NGINX writes PROXY headers of version 1, and of no other.", "    ")
    lines += _stream_server(section)
    lines += ["        proxy_pass %s;" % section.name,
              "        proxy_connect_timeout %s;" % milliseconds(cluster.connect_timeout),
              "        proxy_timeout %s;" % milliseconds(cluster.idle_timeout or NEVER),
              "        proxy_next_upstream_tries %d;" % min(len(section.servers), 4),
              "        proxy_half_close on;", "        proxy_socket_keepalive on;"]
    if section.announces:
        lines.append("        proxy_protocol on;")
    return "\n".join([*lines, "    }"]) + "\n"


def _stream_server(section: Section) -> "List[str]":
    """Its beginning. There is no server for each name before NGINX 1.25.5: variables choose."""
    tls = section.cluster.tls
    if tls is None or not section.tls_at_front:
        return _listen(section)
    choices = _choices(tls)
    first = choices[0].pair
    if len(choices) == 1:
        return _listen(section) + _tls(tls, _quoted(first.cert), _quoted(first.key))
    lines = comment(
        "One of several certificates is chosen by SNI, at each handshake and by a worker. So its"
        " user (see `user` of NGINX; Debian: www-data) has to be able to read all of these files,"
        " the keys as well: chgrp www-data KEY; chmod 640 KEY, and no folder above that shuts it"
        " out. nginx -t does not look at them.", "    ")
    name = _variable(section)
    for part in ("cert", "key"):
        lines += ["    map $ssl_server_name $%s_%s {" % (name, part), "        hostnames;",
                  "        default %s;" % _quoted(getattr(first, part))]
        lines += ["        %s %s;" % (_key(host), _quoted(getattr(pair, part)))
                  for pair, names in choices for host in names]
        lines.append("    }")
    return lines + _listen(section) + _tls(tls, "$%s_cert" % name, "$%s_key" % name)


def _key(host: str) -> str:
    """In a map, some words are no values."""
    return "\\" + host if host in ("default", "hostnames", "include", "volatile") else host


def _quoted(word: str) -> str:
    """A path as NGINX reads it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return '"%s"' % escaped if set(word) & set(" ;{}\"\\'#$") else word
