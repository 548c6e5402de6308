"""The settings of a process, as its file would spell them: those that are set, and the defaults.

They are made from what runs, and not from the file, which may be another by now. So a default is
told by its value, whether the file has it or not; and what the top level sets for all processes
is set.
"""

import json
from typing import Any, Callable, Dict, Iterator, List, Mapping, Tuple

import keys
from cluster_keys import HTTP_KEYS
from description_report import Setting
from model import Configuration, Process, Tls
from schema import Derived, Fields, Key, Required, Table
from signal_names import signal_name

#: RLIM_INFINITY of setrlimit(2).
_UNLIMITED = -1

#: Values that are as good as none.
_EMPTY: Tuple[object, ...] = ((), {}, [])

#: Limits that are no bytes.
_COUNTS = ("nofile", "nproc")


def settings_of(process: Process, configuration: Configuration) -> List[Setting]:
    """In the order of the reference. What is not set and has no default is left out, and so are
    empty defaults, and with `tcp` what is about requests."""
    top = _defaults(keys.LOGGER, {})
    found = _settings(keys.PROCESS, _fields(process), _top(configuration, top))
    return list(found)


def _top(configuration: Configuration, logger: Fields) -> Fields:
    """A top level at which nothing is set that is a setting of all processes, for defaults that
    follow from it."""
    values: Fields = {key.field: key.default for key in keys.TOP.keys}
    values.update(folder=configuration.folder, logger=logger, agent=configuration.agent,
                  terminate_grace_period=None)
    return values


def _settings(table: Table, own: Fields, top: Fields, prefix: str = "") -> Iterator[Setting]:
    for key in table.keys:
        value = own[key.field]
        if key in HTTP_KEYS and own["protocol"] != "http" and not _is_of_tcp(key, own):
            continue
        if isinstance(key.type, Table):
            if value is not None:
                yield from _settings(key.type, value, top, prefix + key.name + ".")
        elif value is not None:
            is_default = not isinstance(key.default, Required) and (
                value == _default_of(key, own, top))
            if not (is_default and value in _EMPTY):
                yield Setting(prefix + key.name, _spelled(key, value), is_default)


def _is_of_tcp(key: Key, own: Fields) -> bool:
    """It is also for what comes before the bytes of the application, where something does."""
    return key.field == "head_timeout" and bool(own["accept_proxy_from"] or own["tls"])


def _defaults(table: Table, top: Fields) -> Fields:
    """All of a table in which nothing is set."""
    own: Fields = {}
    for key in table.keys:
        own[key.field] = _default_of(key, own, top)
    return own


def _default_of(key: Key, own: Fields, top: Fields) -> object:
    if isinstance(key.default, Derived):
        return key.default.compute(own, top)
    if isinstance(key.type, Table) or isinstance(key.default, Required):
        return None
    return key.type.convert(key.default, "/")


def _fields(value: Any) -> Any:
    """A record of `model` with all records in it, as the tables that they were made of."""
    if isinstance(value, Tls):
        return _fields_of_tls(value)
    if hasattr(value, "_fields"):
        return {name: _fields(each) for name, each in zip(value._fields, value)}
    return value


def _fields_of_tls(tls: Tls) -> Fields:
    """Its files by their paths, where the record has what is in them."""
    client_ca = tls.client_ca.path if tls.client_ca else None
    certs, keys_of = ([getattr(pair, name) for pair in tls.pairs] for name in ("cert", "key"))
    return dict(tls._asdict(), client_ca=client_ca, key=keys_of,
                cert=certs if len(certs) > 1 else certs[0])


# How values are spelled


def _spelled(key: Key, value: Any) -> str:
    if isinstance(value, Mapping):
        return _names(value)
    if key.secret:
        return "(not shown)"
    spell = _SPELLINGS.get(key.name)
    if spell is None and key in keys.LIMITS.keys:
        spell = _limit if key.name in _COUNTS else _limit_in_bytes
    if spell is not None:
        return _literal(spell(value))
    factor = {"ms": 1000.0, "s": 1.0, "h": 1 / 3600}.get(key.unit)
    return _literal(value if factor is None else _number(value * factor))


def _literal(value: object) -> str:
    """In TOML, which has strings, numbers, booleans and arrays of them as JSON does."""
    return json.dumps(value, ensure_ascii=False)


def _names(variables: Mapping[str, str]) -> str:
    """Values of the environment are secrets, and what is printed here is shown to others."""
    if not variables:
        return "{}"
    return "{ %s } (values not shown)" % ", ".join(variables)


def _number(value: float) -> object:
    value = round(value, 6)
    return int(value) if value == int(value) else value


def _size(value: int) -> object:
    for unit, letter in ((2**30, "G"), (2**20, "M"), (2**10, "K")):
        if value and value % unit == 0:
            return "%d%s" % (value // unit, letter)
    return value


def _limit(pair: "Tuple[int, int]") -> object:
    return _pair(pair, int)


def _limit_in_bytes(pair: "Tuple[int, int]") -> object:
    return _pair(pair, _size)


def _pair(pair: "Tuple[int, int]", spell: "Callable[[int], object]") -> object:
    soft, hard = ("unlimited" if each == _UNLIMITED else spell(each) for each in pair)
    return soft if soft == hard else "%s:%s" % (soft, hard)


#: Of keys whose value the file has in another form.
_SPELLINGS: Dict[str, Callable[[Any], object]] = {
    "stopSignal": signal_name, "umask": lambda mask: "%03o" % mask, "maxMemory": _size,
    "maxBytes": _size,
}
