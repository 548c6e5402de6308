"""`[processes.cluster.tls]` as it is read: certificates and keys, and what is wrong with them."""

import contextlib
import fcntl
import os
import pickle
import pty
import shutil
import subprocess
import tempfile
import termios
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Tuple

import pytest

import background_loader
import certificates
import configuration
import settings
import tls_expiry
import tls_files
from certificates import Made
from conftest import eventually
from errors import ConfigurationError
from inside import RuntimeStage, inside, listening
from model import Configuration, Tls
from nobody import as_nobody
from running import PUPGEVENT, Running, sleeper
from supervision import gevent_waits_for_children

pytest_plugins = ["runs"]

HEAD = """\
[[processes]]
id = "web"
cmd = "serve"
[processes.cluster]
startPort = 8000
commonPort = 3000
[processes.cluster.tls]
"""
#: The line of the first key below it.
FIRST = 8

WHERE = "processes[0].cluster.tls."

PLAIN = 'cert = "localhost.pem"\nkey = "localhost.key"\n'

DAY = 24 * 3600


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A pair in the folder of the configuration, as localhost.pem and localhost.key."""
    return certificates.make(tmp_path)


def loaded(folder: Path, text: str, head: str = HEAD) -> Configuration:
    (folder / "app.toml").write_text(head + text)
    return configuration.load(str(folder / "app.toml"))


def tls_of(found: Configuration) -> Tls:
    cluster = found.processes[0].cluster
    assert cluster is not None and cluster.tls is not None
    return cluster.tls


def read(folder: Path, text: str) -> Tls:
    return tls_of(loaded(folder, text))


def mistakes(folder: Path, text: str, head: str = HEAD) -> List[Tuple[int, str]]:
    """Lines counted from the first of the table, and what is wrong."""
    with pytest.raises(ConfigurationError) as caught:
        loaded(folder, text, head)
    said = [(each.line or 0, each.message) for each in caught.value.mistakes]
    return [(line - FIRST + 1, message.replace(WHERE, "")) for line, message in said]


def mistake(folder: Path, text: str) -> str:
    (_, message), = mistakes(folder, text)
    return message


# What is right


def test_a_pair_is_known_with_its_names_and_its_end(tmp_path: Path, made: Made) -> None:
    tls = read(tmp_path, PLAIN)
    pair, = tls.pairs
    assert (pair.cert, pair.key) == made
    assert pair.names == ("localhost", "127.0.0.1")
    assert abs(pair.not_after - time.time() - 100 * DAY) < DAY
    assert (tls.min_version, tls.ciphers, tls.client_ca) == ("TLSv1.2", None, None)


def test_all_keys_are_read(tmp_path: Path, made: Made) -> None:
    ca = certificates.make_ca(tmp_path)
    tls = read(tmp_path, PLAIN + 'minVersion = "TLSv1.2"\nciphers = "ECDHE+AESGCM"\n'
               'clientCa = "Test-CA.pem"\n')
    assert tls.ciphers == "ECDHE+AESGCM"
    assert tls.client_ca is not None and tls.client_ca.path == ca.cert
    assert read(tmp_path, PLAIN + 'minVersion = "TLSv1.3"\n').min_version == "TLSv1.3"


def test_several_pairs_stay_in_their_order(tmp_path: Path, made: Made) -> None:
    ca = certificates.make_ca(tmp_path)
    certificates.make(tmp_path, "*.example.com", ("DNS:*.Example.com", "IP:::1"), ca=ca, rsa=True)
    text = 'cert = ["_.example.com.pem", "localhost.pem"]\n'
    tls = read(tmp_path, text + 'key = ["_.example.com.key", "localhost.key"]\n')
    assert [pair.names for pair in tls.pairs] == [
        ("*.example.com", "::1"), ("localhost", "127.0.0.1")]
    assert read(tmp_path, 'cert = ["localhost.pem"]\nkey = "localhost.key"\n').pairs == (
        tls.pairs[1],)


def test_one_file_may_hold_both(tmp_path: Path, made: Made) -> None:
    certificates.in_one_file(made, tmp_path / "both.pem")
    pair, = read(tmp_path, 'cert = "both.pem"\nkey = "both.pem"\n').pairs
    assert pair.cert == pair.key == str(tmp_path / "both.pem")
    assert pair.names == ("localhost", "127.0.0.1")


def test_the_first_certificate_of_a_chain_is_the_one_that_counts(tmp_path: Path) -> None:
    ca = certificates.make_ca(tmp_path)
    leaf = certificates.make(tmp_path, ca=ca)
    chain = tmp_path / "chain.pem"
    chain.write_text("# é: a comment\n" + Path(leaf.cert).read_text() + Path(ca.cert).read_text())
    pair, = read(tmp_path, 'cert = "chain.pem"\nkey = "localhost.key"\n').pairs
    assert pair.names == ("localhost", "127.0.0.1")


@pytest.mark.parametrize("name, names, found", [
    ("Shop.example.COM", (), ("shop.example.com",)),
    ("shop.example.com", ("DNS:other.example.com",), ("other.example.com",)),
    ("shop.example.com", ("email:a@example.com",), ()),
    ("", (), ()),
    ("My Company", (), ()),
    ("twice", ("DNS:a", "DNS:A", "IP:10.0.0.1"), ("a", "10.0.0.1")),
])
def test_names_are_those_of_the_san_and_only_without_one_the_cn(
    tmp_path: Path, name: str, names: Tuple[str, ...], found: Tuple[str, ...]
) -> None:
    made = certificates.make(tmp_path, name, names)
    assert tls_files.read_certificate(made.cert).names == found


def test_python_still_decodes_certificates_of_files(made: Made) -> None:
    found = tls_files.decoded_certificate(made.cert)
    assert found["subjectAltName"] == (("DNS", "localhost"), ("IP Address", "127.0.0.1"))
    assert str(found["notAfter"]).endswith(" GMT")


def test_an_expired_certificate_is_no_mistake(tmp_path: Path) -> None:
    certificates.make(tmp_path, days=-3)
    pair, = read(tmp_path, PLAIN).pairs
    assert pair.not_after < time.time()


def test_other_contents_are_another_configuration(tmp_path: Path, made: Made) -> None:
    ca = certificates.make_ca(tmp_path)
    text = PLAIN + 'clientCa = "Test-CA.pem"\n'
    before = loaded(tmp_path, text)
    assert loaded(tmp_path, text) == before
    certificates.make(tmp_path, days=101)
    renewed = loaded(tmp_path, text)
    assert tls_of(renewed).pairs[0].digest != tls_of(before).pairs[0].digest
    with open(ca.cert, "a") as file:
        file.write(Path(made.cert).read_text())
    assert loaded(tmp_path, text) != renewed


def test_nothing_of_a_key_is_in_the_configuration(tmp_path: Path, made: Made) -> None:
    found = loaded(tmp_path, PLAIN)
    secret = Path(made.key).read_text().splitlines()[1]
    assert secret not in repr(found)
    assert secret.encode() not in pickle.dumps(found)
    assert secret not in repr(tls_files.read_key(made.key))


def test_settings_tell_the_paths_but_that_of_the_key(tmp_path: Path, made: Made) -> None:
    def told(text: str) -> Any:
        found = loaded(tmp_path, text)
        return {each.name: each.value for each in settings.settings_of(found.processes[0], found)
                if each.name.startswith("cluster.tls.")}

    shutil.copy(made.cert, str(tmp_path / "ca.pem"))
    assert told(PLAIN + 'clientCa = "ca.pem"\n') == {
        "cluster.tls.cert": '"%s"' % made.cert, "cluster.tls.key": "(not shown)",
        "cluster.tls.minVersion": '"TLSv1.2"', "cluster.tls.clientCa": '"%s/ca.pem"' % tmp_path}
    several = 'cert = ["localhost.pem", "localhost.pem"]\n'
    found = told(several + 'key = ["localhost.key", "localhost.key"]\n')
    assert found["cluster.tls.cert"] == '["%s", "%s"]' % (made.cert, made.cert)


# What is wrong


def test_each_file_that_cannot_be_used_has_its_line(tmp_path: Path, made: Made) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.pem").write_text(" \n")
    (tmp_path / "text.pem").write_text("hunter2")
    (tmp_path / "begins.pem").write_text("-----BEGIN CERTIFICATE-----\n" * 30000)
    os.mkfifo(str(tmp_path / "fifo.pem"))
    large = tmp_path / "large.pem"
    with large.open("wb") as file:
        file.truncate(2**40)
    certificates.as_der(made)
    for path, reason in (
        ("none.pem", "is not there"),
        ("folder", "is a folder, not a file"),
        ("fifo.pem", "is no regular file"),
        ("/dev/zero", "is no regular file"),
        ("large.pem", "is larger than 1048576 bytes"),
        ("empty.pem", "holds no certificate in PEM: it is empty"),
        ("text.pem", "holds no certificate in PEM"),
        ("begins.pem", "holds no certificate in PEM"),
        ("localhost.pem.der", "holds no certificate in PEM: it is DER, which `openssl x509` or"
         " `openssl pkey` can turn into PEM"),
        ("localhost.key", "holds no certificate in PEM: it holds a private key"),
        ("localhost.pem/x", "cannot be read: not a directory"),
    ):
        text = 'key = "localhost.key"\ncert = "%s"\n' % path
        assert mistakes(tmp_path, text) == [(2, 'cert: "%s" %s' % (path, reason))]
        assert mistake(tmp_path, PLAIN + 'clientCa = "%s"\n' % path) == (
            'clientCa: "%s" %s' % (path, reason))
        text = 'cert = "localhost.pem"\nkey = "%s"\n' % path
        if path != "localhost.key":
            shown = '"%s"' % path if (tmp_path / "." / path).exists() else "the file"
            assert mistakes(tmp_path, text) == [(2, "key: %s %s" % (
                shown, reason.replace("no certificate", "no private key")))]
    assert mistake(tmp_path, 'cert = "localhost.pem"\nkey = "localhost.pem"\n') == (
        'key: "localhost.pem" holds no private key in PEM: it holds a certificate')


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that nobody may enter, too."""
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o755)
    yield Path(folder)
    shutil.rmtree(folder)


def test_a_file_that_may_not_be_read_is_told(open_folder: Path) -> None:
    made = certificates.make(open_folder)
    os.chmod(made.key, 0)
    (open_folder / "app.toml").write_text(HEAD + PLAIN)

    def load() -> str:
        try:
            configuration.load(str(open_folder / "app.toml"))
        except ConfigurationError as error:
            return error.message
        return ""

    assert as_nobody(load) == WHERE + 'key: "localhost.key" cannot be read: permission denied'


def test_a_key_of_another_certificate_is_refused(tmp_path: Path, made: Made) -> None:
    certificates.make(tmp_path, "other")
    certificates.make(tmp_path, "rsa", rsa=True)
    certificates.make(tmp_path, "rsa2", rsa=True)
    for cert, key in (("localhost", "other"), ("localhost", "rsa"), ("rsa", "localhost"),
                      ("rsa", "rsa2")):
        text = 'cert = "%s.pem"\nkey = "%s.key"\n' % (cert, key)
        assert mistakes(tmp_path, text) == [
            (2, 'key: "%s/%s.key" holds the key of another certificate' % (tmp_path, key))]


def test_of_several_pairs_the_wrong_ones_are_told(tmp_path: Path, made: Made) -> None:
    certificates.make(tmp_path, "other")
    text = ('cert = ["localhost.pem", "other.pem", "localhost.pem"]\n'
            'key = [\n"other.key",\n"other.key",\n"other.key",\n]\n')
    reason = '"%s" holds the key of another certificate' % (tmp_path / "other.key")
    assert mistakes(tmp_path, text) == [(3, "key[0]: " + reason), (5, "key[2]: " + reason)]


def test_two_pairs_may_have_the_same_names(tmp_path: Path, made: Made) -> None:
    certificates.make(tmp_path, "rsa", rsa=True)
    tls = read(
        tmp_path, 'cert = ["localhost.pem", "rsa.pem"]\nkey = ["localhost.key", "rsa.key"]\n')
    assert tls.pairs[0].names == tls.pairs[1].names


@pytest.mark.parametrize("text, told", [
    ('cert = ["localhost.pem"]\nkey = ["localhost.key", "localhost.key"]\n',
     [(2, "key: it needs as many paths as cert, each at the same place: 1, and not 2")]),
    ('cert = ["localhost.pem", "localhost.pem"]\nkey = "localhost.key"\n',
     [(2, "key: it needs as many paths as cert, each at the same place: 2, and not 1")]),
    ('cert = []\nkey = "localhost.key"\n', [(1, "cert: it is empty: at least one path is needed")]),
    ('cert = ["localhost.pem"]\nkey = []\n',
     [(2, "key: it is empty: at least one path is needed")]),
    ('cert = 1\nkey = "localhost.key"\n',
     [(1, "cert: 1 is not a path of a PEM file, or an array of such paths")]),
    ('cert = ["localhost.pem", 2]\nkey = ["localhost.key", ""]\n',
     [(1, "cert[1]: it is not a path of a PEM file"),
      (2, "key: it is not a path of a PEM file")]),
    ('key = "localhost.key"\n', [(0, 'tls: "cert" is missing: it is required')]),
    (PLAIN + 'minVersion = "TLSv1.1"\n',
     [(3, 'minVersion: "TLSv1.1" is not a TLS version: did you mean "TLSv1.3"?'
       " (TLSv1.2, TLSv1.3)")]),
    (PLAIN + "clientCa = []\n", [(3, "clientCa: an array is not a path of a PEM file")]),
    (PLAIN + 'clientca = "x"\n', [(3, 'tls: unknown key "clientca": did you mean "clientCa"?')]),
])  # fmt: skip
def test_each_mistake_in_the_table_has_its_line(
    tmp_path: Path, made: Made, text: str, told: List[Tuple[int, str]]
) -> None:
    found = mistakes(tmp_path, text)
    assert [(line, message.replace("processes[0].cluster.", "")) for line, message in found] == told


def test_the_text_of_a_key_in_place_of_its_path_is_not_repeated(
    tmp_path: Path, made: Made
) -> None:
    key = Path(made.key).read_text()
    for name, text in (("key", 'cert = "localhost.pem"\nkey = """%s"""\n' % key),
                       ("cert", 'key = "localhost.key"\ncert = """%s"""\n' % key)):
        assert mistake(tmp_path, text) == (
            name + ": it is the text of a PEM file: what is wanted is the path of one")
    body = "".join(key.splitlines()[1:-1])
    assert mistake(tmp_path, 'cert = "localhost.pem"\nkey = "%s"\n' % body).startswith(
        "key: the file ")


def replaced_in_the_middle(path: str) -> None:
    text = Path(path).read_text()
    middle = len(text) // 2
    Path(path).write_text(text[:middle] + "????" + text[middle + 4:])


def test_damaged_files_are_told(tmp_path: Path) -> None:
    ca = certificates.make_ca(tmp_path)
    made = certificates.make(tmp_path, ca=ca)
    shutil.copy(made.key, str(tmp_path / "damaged.key"))
    replaced_in_the_middle(str(tmp_path / "damaged.key"))
    assert mistake(tmp_path, 'cert = "localhost.pem"\nkey = "damaged.key"\n') == (
        'key: "%s" holds a private key that cannot be read' % (tmp_path / "damaged.key"))
    leaf = Path(made.cert).read_text()
    replaced_in_the_middle(ca.cert)
    (tmp_path / "chain.pem").write_text(leaf + Path(ca.cert).read_text())
    reason = '"chain.pem" is damaged: certificate 2 in it cannot be read'
    assert mistake(tmp_path, 'cert = "chain.pem"\nkey = "localhost.key"\n') == "cert: " + reason
    assert mistake(tmp_path, PLAIN + 'clientCa = "chain.pem"\n') == "clientCa: " + reason


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(
    tmp_path: Path, made: Made
) -> None:
    certificates.encrypted(made)
    (tmp_path / "app.toml").write_text(
        HEAD + 'cert = "localhost.pem"\nkey = "localhost.key.encrypted"\n')
    keyboard, terminal = pty.openpty()
    try:
        # OpenSSL would ask at /dev/tty.
        done = subprocess.run(
            [*PUPGEVENT, "check", "app.toml"], stdin=terminal, stdout=terminal,
            stderr=subprocess.PIPE, start_new_session=True, cwd=str(tmp_path), timeout=60,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), check=False)
        os.set_blocking(keyboard, False)
        with pytest.raises(BlockingIOError):
            os.read(keyboard, 1000)
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert done.returncode == 2
    assert done.stderr.decode() == (
        'app.toml:9: %skey: "%s.encrypted" holds a key with a passphrase, which nobody could type'
        " at a start: `openssl pkey -in FILE -out NEW` writes it without\n" % (WHERE, made.key))


@pytest.mark.parametrize("ciphers, told", [
    ("hunter", 'OpenSSL finds no cipher in "hunter"'),
    ("ALL:!ALL", 'OpenSSL finds no cipher in "ALL:!ALL"'),
    ("aNULL", '"aNULL" leaves no cipher for TLS 1.2 that encrypts, and that proves who the server'
     " is"),
    ("é", 'OpenSSL finds no cipher in "é"'),
    ("", '"" is not a list of ciphers, as OpenSSL writes it'),
])
def test_a_list_that_leaves_no_cipher_is_refused(
    tmp_path: Path, made: Made, ciphers: str, told: str
) -> None:
    assert mistakes(tmp_path, PLAIN + 'ciphers = "%s"\n' % ciphers) == [(3, "ciphers: " + told)]


def test_ciphers_without_tls_1_2_are_refused(tmp_path: Path, made: Made) -> None:
    text = PLAIN + 'minVersion = "TLSv1.3"\nciphers = "ECDHE+AESGCM"\n'
    assert mistakes(tmp_path, text) == [
        (4, 'ciphers: it is for TLS 1.2, and minVersion is "TLSv1.3"')]


# What is warned of


def warnings(folder: Path, text: str = PLAIN, head: str = HEAD) -> List[str]:
    found = tls_expiry.tls_warnings(loaded(folder, text, head), time.time())
    return [each.replace(WHERE, "") for each in found]


def date_in(days: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(time.time() + days * DAY))


def test_nothing_is_said_of_a_good_pair(tmp_path: Path, made: Made) -> None:
    assert warnings(tmp_path) == []


@pytest.mark.parametrize("days, told", [
    (-3, "has expired on "), (0.5, "expires in less than a day, on "),
    (1.5, "expires in 1 day, on "), (12.5, "expires in 12 days, on "),
    (20.5, "expires in 20 days, on "), (21.5, None),
])
def test_the_end_of_a_certificate_is_warned_of(
    tmp_path: Path, days: float, told: Optional[str]
) -> None:
    made = certificates.make(tmp_path, days=days)
    found = warnings(tmp_path)
    if told is None:
        assert found == []
    else:
        # openssl was asked a moment ago.
        assert found in [["cert: %s%s: %s" % (told, date_in(each), made.cert)]
                         for each in (days, days - 0.01)]


def test_days_left_are_whole_ones() -> None:
    now = 1e9
    for seconds, days in ((0, 0), (-1, -1), (DAY - 1, 0), (DAY, 1), (-DAY, -1), (-DAY - 1, -2)):
        assert tls_expiry.days_left(now + seconds, now) == days
    assert tls_expiry.expires_soon(now + 21 * DAY - 1, now)
    assert not tls_expiry.expires_soon(now + 21 * DAY, now)


def test_a_certificate_for_nobody_is_warned_of(tmp_path: Path, made: Made) -> None:
    nobody = certificates.make(tmp_path, "", ())
    text = 'cert = ["localhost.pem", "nobody.pem"]\nkey = ["localhost.key", "nobody.key"]\n'
    assert warnings(tmp_path, text) == [
        "cert[1]: it is for no name and no address: %s" % nobody.cert]


@pytest.mark.parametrize("mode, others, root", [
    (0o600, False, False), (0o400, False, False), (0o640, True, False), (0o644, True, True),
    (0o604, True, True), (0o660, True, True),
])
def test_a_key_that_others_can_read_is_warned_of(
    tmp_path: Path, made: Made, mode: int, others: bool, root: bool
) -> None:
    os.chmod(made.key, mode)
    os.chmod(str(tmp_path), 0o755)
    told = "key: others than its owner can read it (its mode is %03o, and 600 is enough): %s" % (
        mode, made.key)
    with entered_by_all(tmp_path):
        assert warnings(tmp_path) == ([told] if (root if os.geteuid() == 0 else others) else [])
    os.chmod(str(tmp_path), 0o700)
    assert warnings(tmp_path) == []


@contextlib.contextmanager
def entered_by_all(folder: Path) -> Iterator[None]:
    """The folders above it can be entered by everyone meanwhile."""
    closed = [each for each in folder.parents if not each.stat().st_mode & 0o011]
    for each in closed:
        each.chmod(0o711)
    yield
    for each in closed:
        each.chmod(0o700)


def test_tls_without_a_common_port_is_warned_of(tmp_path: Path, made: Made) -> None:
    head = HEAD.replace("commonPort = 3000\n", "")
    assert warnings(tmp_path, PLAIN, head) == [
        "processes[0].cluster.tls: there is no commonPort, at which TLS would end"]


Run = Callable[..., Running]


def test_check_and_a_start_tell_what_they_warn_of(
    folder: Path, running: Run, free_ports: Any
) -> None:
    made = certificates.make(folder, days=3.5)
    common, first = free_ports(2)
    app = running(sleeper("web", autostart=False, cluster={
        "startPort": first, "commonPort": common, "commonHost": "127.0.0.1",
        "tls": {"cert": made.cert, "key": made.key}}))
    told = "expires in 3 days, on %s: %s" % (date_in(3.5), made.cert)
    done = app.run("check")
    assert done.returncode == 0
    assert "warning: processes[0].cluster.tls.cert: %s\n" % told in done.stderr
    app.start()
    line = "[core] warning: processes[0].cluster.tls.cert: %s\n" % told
    eventually(lambda: line in app.said())
    assert app.said().count("expires") == 1


# What a reload makes of it


def web(ports: List[int], made: Made) -> Any:
    return listening("web", ports[0], ports[1], tls=made._asdict())


def tls_in_use(stage: RuntimeStage) -> Any:
    return stage.runtime.balancers["web"]._cluster.tls


def test_renewed_files_are_seen_although_the_configuration_has_not_changed(
    tmp_path: Path, free_ports: Any
) -> None:
    made = certificates.make(tmp_path)
    with inside(tmp_path, [web(free_ports(2), made)]) as stage:
        before, pids = tls_in_use(stage), stage.pids()
        assert stage.reload() == "reloaded: nothing differs"
        certificates.make(tmp_path, days=101)
        assert stage.reload() == "reloaded: changed web"
        assert tls_in_use(stage).pairs[0].digest != before.pairs[0].digest
        assert stage.reload() == "reloaded: nothing differs"
        assert stage.pids() == pids


def test_a_broken_pair_is_refused_by_a_reload_which_changes_nothing(
    tmp_path: Path, free_ports: Any
) -> None:
    made = certificates.make(tmp_path)
    with inside(tmp_path, [web(free_ports(2), made)]) as stage:
        before, pids, runs = tls_in_use(stage), stage.pids(), stage.runtime.configuration
        shutil.copy(certificates.make(tmp_path, "other").key, made.key)
        with pytest.raises(ConfigurationError) as caught:
            stage.reload()
        assert caught.value.message == '%skey: "%s" holds the key of another certificate' % (
            WHERE, made.key)
        assert tls_in_use(stage) is before
        assert stage.runtime.configuration is runs
        assert stage.pids() == pids


def test_a_reload_warns_of_certificates(tmp_path: Path, free_ports: Any) -> None:
    made = certificates.make(tmp_path)
    with inside(tmp_path, [web(free_ports(2), made)]) as stage:
        certificates.make(tmp_path, days=-3)
        assert stage.reload() == "reloaded: changed web"
        told = "%scert: has expired on %s: %s" % (WHERE, date_in(-3), made.cert)
        assert told in stage.told
        assert stage.remembered().count(told) == 1


def test_a_large_configuration_has_its_certificates_too(tmp_path: Path, made: Made) -> None:
    """It is read in another process."""
    found = loaded(tmp_path, PLAIN)
    with gevent_waits_for_children():
        assert background_loader.load_in_process(found.path) == found
