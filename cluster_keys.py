"""The keys of a cluster: its instances, and the balancer in front of them."""

import tls_validators
import validators
from schema import REQUIRED, Table, key, ms, no_default, seconds
from strategies import STRATEGIES

PROTOCOLS = ("tcp", "http")
#: Strategies that need to see requests.
HTTP_STRATEGIES = ("cookie",)
PROXY_PROTOCOLS = ("v1", "v2")
TLS_VERSIONS = ("TLSv1.2", "TLSv1.3")
#: Most instances of one process: more is a typing error rather than a machine of that size.
MAX_INSTANCES = 1000
#: The limit of numbers of connections, clients in a queue and restarts: no kernel holds more.
MAX_COUNT = 10**6

PASSIVE = Table(
    "processes.cluster.health.passive",
    (
        key(
            "count", validators.integer(1, 1000), 5,
            "so many answers of 5xx (but 501 and 505), or connections that end without an answer,"
            " in a row take an instance out of rotation",
        ),
        seconds("seconds", 10, "for so long; then it comes back by itself", above_zero=True),
    ),
)

HEALTH = Table(
    "processes.cluster.health",
    (
        key(
            "path",
            validators.string_matching("a path that starts with /", "/[!-~]*"),
            no_default(),
            "path of an HTTP GET, which passes with 2xx or 3xx; without it, a TCP connect is all",
        ),
        ms("intervalMs", 2000, "time from one check to the next", above_zero=True),
        ms("timeoutMs", 2000, "a check that takes longer has failed", above_zero=True),
        key("rise", validators.integer(1, 1000), 2, "passes in a row that bring an instance up"),
        key("fall", validators.integer(1, 1000), 3, "failures in a row that take it down"),
        key(
            "restart",
            validators.boolean(),
            False,
            "restart an instance that is down, one of a cluster at a time, instead of only taking"
            " it out of rotation",
        ),
        key(
            "passive", PASSIVE, no_default(),
            "with `http`: what clients are answered counts as well, below",
        ),
    ),
)

TLS = Table(
    "processes.cluster.tls",
    (
        key(
            "cert", tls_validators.certificates(), REQUIRED,
            "certificate and behind it those between it and its CA, PEM; of several, a client gets"
            " the first that is for the host that it names, else the first",
        ),
        key(
            "key", tls_validators.private_keys(), REQUIRED,
            "private key, PEM, without a passphrase; with several certificates that of each, in the"
            " same order; may be the same file",
            secret=True,
        ),
        key(
            "minVersion",
            validators.choice("TLS version", TLS_VERSIONS),
            "TLSv1.2",
            "oldest version that is accepted",
        ),
        key(
            "ciphers", tls_validators.ciphers(),
            no_default("ECDHE with AES-GCM or ChaCha20"),
            "ciphers for TLS 1.2, best first; TLS 1.3 has its own",
        ),
        key(
            "clientCa", tls_validators.authorities(), no_default(),
            "one or more certificates of CAs, PEM: a client has to show a certificate that one of"
            " them has signed",
        ),
    ),
    complete=tls_validators.with_pairs,
)

#: Keys that mean nothing without `protocol = "http"`.
HTTP_KEYS = (
    ms(
        "headTimeoutMs",
        10000,
        "with `http`: a request whose head takes longer is answered with 408; with"
        " `acceptProxyFrom` as long for the header of a proxy, and with `tls` for the handshake",
        above_zero=True,
    ),
    ms(
        "responseTimeoutMs",
        0,
        "with `http`: an instance whose answer has not begun by then is given up for this request,"
        " which is answered with 504; 0 is never",
    ),
    key(
        "keepUpstream",
        validators.integer(0, MAX_COUNT),
        64,
        "with `http`: idle connections to each instance that are kept for the next requests",
    ),
    key(
        "accessLog",
        validators.file_path(),
        no_default(),
        "with `http`: file that gets a line for each request, in the combined format, then the"
        " instance and the times; rotated as the log files of the process are; its folder has to"
        " be there",
    ),
)

CLUSTER = Table(
    "processes.cluster",
    (
        key(
            "instances", validators.instance_count(MAX_INSTANCES), 1,
            'how many; "auto": one per CPU',
        ),
        key(
            "startPort",
            validators.port(),
            no_default(),
            "instance n, from 0, gets `startPort` + n, in `PUP_CLUSTER_PORT` and `PORT`; required"
            " with `commonPort`",
        ),
        key(
            "commonPort", validators.port(), no_default("none: no balancer"),
            "where clients connect",
        ),
        key(
            "commonHost",
            validators.host(),
            "0.0.0.0",
            "address to listen on; `::` takes IPv4 too",
        ),
        key("instanceHost", validators.host(), "127.0.0.1", "address where the instances listen"),
        key(
            "protocol",
            validators.choice("protocol", PROTOCOLS),
            "tcp",
            "`http` for web applications: each request is balanced, and none is lost at a restart;"
            " `tcp` for everything else: whole connections, whatever their bytes are",
        ),
        key(
            "strategy",
            validators.choice("strategy", tuple(dict.fromkeys((*STRATEGIES, *HTTP_STRATEGIES)))),
            "round-robin",
            "which instance gets the next client, or with `http` the next request; `cookie` needs"
            " `http`",
        ),
        ms(
            "readyTimeoutMs",
            30000,
            "an instance whose port does not accept in that time, or with `health` has not passed a"
            " check, is killed: its start has failed",
            above_zero=True,
        ),
        ms(
            "connectTimeoutMs", 2000,
            "time-out of one attempt to connect to an instance", above_zero=True,
        ),
        ms(
            "queueTimeoutMs",
            10000,
            "how long a client waits when no instance can take it; then its connection is closed,"
            " with `http` after an answer of 503",
        ),
        key("queueLimit", validators.integer(0, MAX_COUNT), 1024, "how many clients may wait"),
        key(
            "maxConnections",
            validators.integer(0, MAX_COUNT),
            0,
            "most connections of one instance, or with `http` most requests in flight; further"
            " clients wait; 0 is no limit",
        ),
        ms(
            "idleTimeoutMs",
            3600000,
            "a connection without a byte in either direction for that time is closed; 0 is never",
        ),
        ms(
            "halfCloseTimeoutMs", 60000,
            "the same after one side has closed its direction; 0 is never",
        ),
        ms(
            "slowStartMs",
            0,
            "an instance that has come up gets few clients at first, and its full share only after"
            " that time; not with `ip-hash`",
        ),
        *HTTP_KEYS,
        key("health", HEALTH, no_default(), "health checks of the instances, below"),
        key(
            "acceptProxyFrom",
            validators.networks(),
            no_default(),
            "addresses and networks of proxies in front, which are believed about their clients:"
            " by the header of the PROXY protocol (v1 or v2), which they have to send with `tcp`;"
            " with `http` by that, or else by `X-Forwarded-For` and the like. `ip-hash`, the access"
            " log and `proxyProtocol` then have the client's address",
        ),
        key(
            "proxyProtocol",
            validators.choice("PROXY protocol", PROXY_PROTOCOLS),
            no_default(),
            "begin each connection to an instance with a header of the PROXY protocol, which says"
            " who the client is; the application has to expect it. With `http` no connection is"
            " kept for a next request then",
        ),
        key("tls", TLS, no_default(), "TLS ends at the common port, below"),
    ),
)
