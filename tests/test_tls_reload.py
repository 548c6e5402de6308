"""What of TLS changes in a running pupgevent: at once for who comes, and never for who is there."""

import socket
import ssl
from pathlib import Path
from typing import Any, Callable, List, Optional

import pytest

from certificates import Made, make, make_ca
from configuration import load
from conftest import eventually
from errors import PupgeventError
from load import Load
from running import Running, get, is_free, server, sleeper
from tls_clients import (
    KEEPING,
    REQUEST,
    SecureLoad,
    ask,
    ask_once,
    client_context,
    connect,
    names_of,
)
from tls_contexts import CertificateStore

pytest_plugins = ["runs"]

VERSIONS = ("TLSv1.2", "TLSv1.3")
PROTOCOLS = ("http", "tcp")


class Site:
    """One process and its file; what `cert` and `key` name is in the folder."""

    def __init__(self, running: Any, folder: Path, ports: List[int], protocol: str) -> None:
        self.folder = folder
        self.ports, self.port = ports, ports[-1]
        self.protocol = protocol
        self.ca = make_ca(folder)
        self.renew()
        self.app: Running = running(self.process())

    def renew(self, *names: str, **more: Any) -> Made:
        """In place of what there was."""
        found = [*("DNS:" + name for name in names), "DNS:localhost"]
        return make(self.folder, "site", found, ca=self.ca, **more)

    def process(self, protocol: str = "", tls: Any = True, **more: Any) -> Any:
        """`more` are keys of TLS."""
        found = server("app", self.ports[:1], self.port)
        found["cluster"]["protocol"] = protocol or self.protocol
        if tls:
            found["cluster"]["tls"] = dict(
                {"cert": str(self.folder / "site.pem"), "key": str(self.folder / "site.key")},
                **more)
        return found

    def reload(self, **changes: Any) -> str:
        self.app.write(self.process(**changes))
        return str(self.app.ask("reload")["text"])

    def context(self, version: str = "", own: "Optional[Made]" = None) -> ssl.SSLContext:
        return client_context(self.ca.cert, version, own)

    def connect(self, context: "Optional[ssl.SSLContext]" = None, **more: Any) -> ssl.SSLSocket:
        return connect(self.port, context or self.context(), **more)

    def names(self) -> "List[str]":
        with self.connect() as client:
            return list(names_of(client))


@pytest.fixture
def make_site(
    running: "Callable[..., Running]", folder: Path, free_ports: "Callable[[int], List[int]]"
) -> "Callable[[str], Site]":
    def make_site(protocol: str) -> Site:
        site = Site(running, folder, free_ports(3), protocol)
        site.app.start()
        return site

    return make_site


@pytest.fixture(params=PROTOCOLS)
def site(request: Any, make_site: "Callable[[str], Site]") -> Site:
    return make_site(request.param)


@pytest.fixture
def web(make_site: "Callable[[str], Site]") -> Site:
    return make_site("http")


def greets(client: ssl.SSLSocket) -> None:
    assert ask(client).startswith(b"Hello from instance 0 ")


# Certificates


def test_a_new_certificate_is_served_at_once_and_who_is_there_stays(site: Site) -> None:
    with site.connect() as before:
        greets(before)
        site.renew("new.example")
        assert site.names() == ["localhost"]
        assert site.app.run("check").returncode == 0
        assert site.reload() == "reloaded: changed app"
        assert site.names() == ["new.example", "localhost"]
        assert site.reload() == "reloaded: nothing differs"
        greets(before)
        assert names_of(before) == ["localhost"]


def test_a_ticket_from_before_a_new_certificate_still_counts(site: Site) -> None:
    """It spares a client half of the handshake, as often as certificates are renewed."""
    contexts = [site.context(version) for version in VERSIONS]
    sessions = [session_of(site, context) for context in contexts]
    for name in ("one.example", "two.example"):
        site.renew(name)
        assert site.reload() == "reloaded: changed app"
        for context, session, version in zip(contexts, sessions, VERSIONS):
            with site.connect(context, session=session) as client:
                greets(client)
                assert (client.session_reused, client.version()) == (True, version)
        assert name in site.names()


def session_of(site: Site, context: ssl.SSLContext, session: Any = None) -> Any:
    """With TLS 1.3 tickets come behind the handshake."""
    with site.connect(context, session=session) as client:
        greets(client)
        assert client.session_reused == (session is not None)
        return client.session


def test_another_kind_of_key(web: Site) -> None:
    context = web.context("TLSv1.2")

    def cipher() -> str:
        with web.connect(context) as client:
            greets(client)
            return client.cipher()[0]  # type: ignore[index]

    assert "-ECDSA-" in cipher()
    web.renew(rsa=True)
    web.reload()
    assert "-RSA-" in cipher()


def break_key(site: Site) -> None:
    other = make(site.folder, "other", ca=site.ca)
    Path(other.key).replace(site.folder / "site.key")


def lose_key(site: Site) -> None:
    (site.folder / "site.key").unlink()


def damage(site: Site) -> None:
    path = site.folder / "site.pem"
    path.write_text(path.read_text().replace("M", "N"))


BREAKING = {
    "holds the key of another certificate": break_key,
    "is not there": lose_key,
    "is damaged": damage,
}


def test_a_pair_that_cannot_be_used_changes_nothing(web: Site) -> None:
    with web.connect() as before:
        greets(before)
        for reason, breaking in BREAKING.items():
            web.renew("new.example")
            breaking(web)
            assert reason in web.app.run("check").stderr
            with pytest.raises(PupgeventError, match=reason):
                web.reload(minVersion="TLSv1.3")
            greets(before)
            assert web.names() == ["localhost"]
            session_of(web, web.context("TLSv1.2"))
    web.renew("new.example")
    assert web.reload() == "reloaded: changed app"
    assert web.names() == ["new.example", "localhost"]


def test_a_reload_that_fails_for_another_reason_changes_no_certificate(web: Site) -> None:
    """And what comes after it finds the old ones."""
    context = web.context("TLSv1.2")
    session = session_of(web, context)
    web.renew("new.example")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        web.app.write(web.process(), server("second", web.ports[1:2], port))
        with pytest.raises(PupgeventError, match="port %d" % port):
            web.app.ask("reload")
    assert web.names() == ["localhost"]
    web.app.ask("scale", id="app", instances=2)
    assert web.names() == ["localhost"]
    web.reload()
    assert web.names() == ["new.example", "localhost"]
    session_of(web, context, session)


def test_a_certificate_that_has_expired_is_taken_with_a_warning(web: Site) -> None:
    """It is not refused: it would keep a pupgevent from its start, and all else in the file."""
    web.renew(days=-3)
    assert web.reload() == "reloaded: changed app"
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate.verify.failed"):
        web.connect()
    eventually(lambda: "has expired on" in web.app.said())


def test_files_that_go_between_their_check_and_their_use_change_nothing(
    web: Site, tmp_path: Path
) -> None:
    store = CertificateStore()
    processes = load(str(web.app.config)).processes
    cluster = processes[0].cluster
    assert cluster is not None and cluster.tls is not None
    store.load(processes)
    before = store.of("app", cluster)
    web.renew("new.example")
    changed = load(str(web.app.config)).processes
    (web.folder / "site.key").unlink()
    with pytest.raises(PupgeventError, match="app: TLS cannot begin"):
        store.load(changed)
    assert store.of("app", cluster) is before is not None


def test_clients_of_a_process_that_is_removed_are_told_the_end(
    make_site: "Callable[[str], Site]"
) -> None:
    site = make_site("http")
    client = site.connect()
    greets(client)
    site.app.write(sleeper("other"))
    site.app.ask("reload")
    assert is_free(site.port)
    assert client.recv(1000) == b""
    client.close()


def test_a_client_on_its_way_has_what_is_there_when_it_speaks(web: Site) -> None:
    with socket.create_connection(("127.0.0.1", web.port), 60) as plain:
        web.renew("new.example")
        web.reload()
        with web.context().wrap_socket(plain, server_hostname="localhost") as client:
            assert "new.example" in names_of(client)
            greets(client)


def test_a_handshake_under_way_goes_on_as_it_began(web: Site) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = web.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", web.port), 60) as plain:
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        hello = outgoing.read()
        plain.sendall(hello[:100])
        web.names()  # that much has been read
        web.renew("new.example")
        web.reload(minVersion="TLSv1.3")
        plain.sendall(hello[100:])
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                plain.sendall(outgoing.read())
                incoming.write(plain.recv(65536))
        client.write(REQUEST)
        plain.sendall(outgoing.read())
        answer = b""
        while b"Hello from" not in answer:
            try:
                answer += client.read(65536)
            except ssl.SSLWantReadError:
                incoming.write(plain.recv(65536))


# Other keys


def test_an_older_version_is_refused_from_then_on(site: Site) -> None:
    older = site.context("TLSv1.2")
    with site.connect(older) as before:
        greets(before)
        site.reload(minVersion="TLSv1.3")
        with pytest.raises(ssl.SSLError, match=r"(?i)alert.protocol.version"):
            site.connect(older)
        greets(before)
        with site.connect() as client:
            assert client.version() == "TLSv1.3"
            greets(client)
        site.reload()
        with site.connect(older) as client:
            greets(client)


def test_other_ciphers(web: Site) -> None:
    context = web.context("TLSv1.2")

    def cipher(session: Any = None) -> Any:
        with web.connect(context, session=session) as client:
            greets(client)
            return client.cipher(), client.session, client.session_reused

    (name, _, _), session, _ = cipher()
    assert "AES" in name
    web.reload(ciphers="ECDHE+CHACHA20")
    (name, _, _), _, is_resumed = cipher(session)
    assert ("CHACHA20" in name, is_resumed) == (True, False)


def test_who_has_to_show_a_certificate_cannot_come_back_without(
    site: Site, tmp_path: Path
) -> None:
    """Tickets do not count from before a change of whom is trusted."""
    one, two = make_ca(tmp_path, "One"), make_ca(tmp_path, "Two")
    own = make(tmp_path, "somebody", ca=one)
    for version in VERSIONS:
        nobody, somebody = site.context(version), site.context(version, own)
        with site.connect(nobody) as before:
            greets(before)
            session = before.session
            site.reload(clientCa=one.cert)
            with pytest.raises(OSError, match=r"(?i)certificate.required|handshake.failure"):
                refused(site, nobody, session)
            session = session_of(site, somebody)
            session_of(site, somebody, session)
            site.reload(clientCa=two.cert)
            with pytest.raises(OSError, match=r"(?i)unknown.ca"):
                refused(site, somebody, session)
            site.reload()
            session_of(site, nobody)
            greets(before)


def refused(site: Site, context: ssl.SSLContext, session: Any = None) -> None:
    """With TLS 1.3 a client learns of it where it reads."""
    with site.connect(context, session=session) as client:
        ask(client)


def test_another_protocol(make_site: "Callable[[str], Site]") -> None:
    site = make_site("tcp")
    context = site.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with site.connect(context) as before:
        assert before.selected_alpn_protocol() is None
        greets(before)
        site.reload(protocol="http")
        greets(before)
        with site.connect(context) as client:
            assert client.selected_alpn_protocol() == "http/1.1"
            greets(client)
            site.reload(protocol="tcp")
            greets(client)
            greets(before)
        with site.connect(context) as client:
            assert client.selected_alpn_protocol() is None
            greets(client)


def test_a_plain_port_becomes_one_of_tls_and_back(site: Site) -> None:
    secure = site.connect()
    greets(secure)
    site.reload(tls=None)
    assert get(site.port).startswith("Hello from ")
    greets(secure)
    with socket.create_connection(("127.0.0.1", site.port), 60) as plain:
        plain.sendall(KEEPING)
        assert plain.recv(65536).startswith(b"HTTP/1.1 200 ")
        site.reload()
        plain.sendall(KEEPING)
        assert plain.recv(65536).startswith(b"HTTP/1.1 200 ")
    greets(secure)
    secure.close()
    assert ask_once(site.port, site.context()).startswith(b"Hello from ")
    with socket.create_connection(("127.0.0.1", site.port), 60) as plain:
        plain.sendall(REQUEST)
        told = b"".join(iter(lambda: plain.recv(65536), b""))
    if site.protocol == "http":
        assert told.startswith(b"HTTP/1.1 400 ") and b"HTTPS" in told
    else:
        assert not told.startswith(b"HTTP")


def test_a_port_moves_with_its_tls(web: Site, free_ports: "Callable[[int], List[int]]") -> None:
    with web.connect() as before:
        greets(before)
        old, web.port = web.port, free_ports(1)[0]
        web.reload()
        assert is_free(old)
        greets(before)
        with web.connect() as client:
            greets(client)


# Under load


def test_reloads_and_restarts_lose_no_request(site: Site) -> None:
    """New certificates, other settings, and new instances, while clients come and stay."""
    with SecureLoad(site.port, site.context(), 2, 2) as load:
        for number, more in enumerate((
                {}, {"minVersion": "TLSv1.3"}, {"ciphers": "ECDHE+CHACHA20"}, {})):
            wait_for_answers(load)
            site.renew("release-%d.example" % number)
            site.reload(**more)
        wait_for_answers(load)
        site.app.ask("restart", words=["app"])
        wait_for_answers(load)
    assert load.failures == []


def wait_for_answers(load: Load, count: int = 15) -> None:
    before = load.served
    eventually(lambda: load.served > before + count)
