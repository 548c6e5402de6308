"""What the servers of the bench are configured with: one worker each, and what their manuals
recommend. All listen on 127.0.0.1 only and write into the work folder.
"""

import os
from typing import Sequence

from bench.tls import CERTIFICATE, KEY, PAIR

#: NGINX runs its workers as www-data otherwise, who may not enter the work folder.
USER = "user root;" if os.geteuid() == 0 else ""

#: Sockets that NGINX takes at most, of clients and to servers; and clients that HAProxy takes: it
#: wants four descriptors for each, with its pipes.
NGINX_SOCKETS, HAPROXY_CLIENTS = 12000, 5000

#: In front of every NGINX, whose files have the name and the port in their names.
NGINX_BEGIN = """\
%(user)s
%(load_module)s
worker_processes 1;
daemon off;
pid %(name)s-%(port)d.pid;
error_log %(name)s-%(port)d.err;
"""

#: At the beginning of every NGINX's http block: whatever it keeps aside lies in the work folder.
NGINX_HTTP_BEGIN = """\
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_max_body_size 0;
    client_body_temp_path %(name)s-%(port)d-body;
    proxy_temp_path %(name)s-%(port)d-proxy;
    fastcgi_temp_path %(name)s-%(port)d-fastcgi;
    uwsgi_temp_path %(name)s-%(port)d-uwsgi;
    scgi_temp_path %(name)s-%(port)d-scgi;
"""

WEB_SERVER = NGINX_BEGIN + """\
events { worker_connections 8192; multi_accept on; }
http {
""" + NGINX_HTTP_BEGIN + """\
    sendfile on;
    open_file_cache max=100;

    # An upload is read into memory to its end and then dropped: of all the ways to have NGINX
    # read a body this one is the cheapest. A `return` alone would answer before the body is there.
    upstream uploaded { server unix:web-%(port)d.sock; keepalive 64; }
    server { listen unix:web-%(port)d.sock; return 200 "ok\\n"; }
    server {
        listen 127.0.0.1:%(port)d backlog=4096;
        root files;
        location = / { return 200 "hello\\n"; }
        location = /upload {
            client_body_buffer_size 12m;
            proxy_pass http://uploaded;
            proxy_pass_request_body off;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Content-Length "";
        }
    }
}
"""

PUPGEVENT = """\
[[processes]]
id = "web"
cmd = %(cmd)s
autostart = true

[processes.cluster]
instances = %(instances)d
commonHost = "127.0.0.1"
commonPort = %(port)d
startPort = %(start)d
"""

#: tcp is not named: an earlier version may not know the key.
PUPGEVENT_HTTP = PUPGEVENT + """\
protocol = "http"
"""

#: Behind either.
PUPGEVENT_TLS = """\

[processes.cluster.tls]
cert = "%s"
key = "%s"
""" % (CERTIFICATE, KEY)

NGINX_STREAM = NGINX_BEGIN + """\
events { worker_connections %(connections)d; }
stream {
    upstream web { %(servers)s }
    server {
        listen 127.0.0.1:%(port)d %(ssl)s backlog=4096;
        proxy_pass web;
        %(certificate)s
    }
}
"""

#: Answers and uploads are buffered, which is its default.
NGINX_HTTP = NGINX_BEGIN + """\
events { worker_connections %(connections)d; }
http {
""" + NGINX_HTTP_BEGIN + """\
    upstream web {
        %(servers)s
        keepalive 128;
        keepalive_requests 1000000000;
    }
    server {
        listen 127.0.0.1:%(port)d %(ssl)s backlog=4096;
        %(certificate)s
        location / {
            proxy_pass http://web;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }
    }
}
"""

HAPROXY = """\
global
    nbthread 1
    maxconn %(connections)d
defaults
    mode %(mode)s
    option splice-auto
    option tcp-smart-accept
    option tcp-smart-connect
    timeout connect 2s
    timeout client 1h
    timeout server 1h
%(more)s
listen bench
    bind 127.0.0.1:%(port)d backlog 4096 %(ssl)s
    balance roundrobin
%(servers)s
"""

#: Tickets are on by default in both.
NGINX_TLS = """\
ssl_certificate %s;
        ssl_certificate_key %s;
        ssl_protocols TLSv1.2 TLSv1.3;""" % (CERTIFICATE, KEY)
HAPROXY_TLS = "ssl crt %s ssl-min-ver TLSv1.2" % PAIR

HAPROXY_HTTP = """\
    option forwardfor
    http-reuse always
    timeout http-request 10s
    timeout http-keep-alive 1h
"""


def nginx(text: str, name: str, port: int, stream_module: str = "",
          servers: Sequence[int] = (), tls: bool = False) -> str:
    """One of the texts above; `name` begins the names of its files, `servers` are ports."""
    return text % {
        "user": USER, "name": name, "port": port, "connections": NGINX_SOCKETS,
        "load_module": "load_module %s;" % stream_module if stream_module else "",
        "ssl": "ssl" if tls else "", "certificate": NGINX_TLS if tls else "",
        "servers": " ".join("server 127.0.0.1:%d;" % each for each in servers)}


def haproxy(mode: str, port: int, servers: Sequence[int], tls: bool = False) -> str:
    """`mode` is its own word for the protocol: tcp or http."""
    return HAPROXY % {
        "mode": mode, "port": port, "connections": HAPROXY_CLIENTS,
        "more": HAPROXY_HTTP if mode == "http" else "", "ssl": HAPROXY_TLS if tls else "",
        "servers": "\n".join("    server web-%d 127.0.0.1:%d" % (each, each) for each in servers)}
