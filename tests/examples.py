"""Configuration files as somebody else wrote them, on ports that are free here."""

import re
from pathlib import Path
from typing import Callable, Dict, List

from schema import Table

#: Most instances of one process in them.
MOST = 4

#: A port of a cluster, in TOML and in JSON.
PORTS = re.compile(r'\b(startPort|commonPort)"?(?: =|:) (\d+)')

COMMON_PORT = re.compile(r'^( *)("?)commonPort"?( =|:) \d+,?$', re.MULTILINE)


def with_other_ports(path: Path, free_ports: Callable[[int], List[int]]) -> Dict[str, int]:
    """Write others into the file, wherever it has them; nobody from outside reaches those.

    Returns them by the ports that the file had.
    """
    text = path.read_text()
    ports = {port: free_ports(MOST if key == "startPort" else 1)[0]
             for key, port in PORTS.findall(text)}
    for written, port in ports.items():
        text = re.sub(r"\b%s\b" % written, str(port), text)
    if "commonHost" not in text:
        text = COMMON_PORT.sub(r'\1\2commonHost\2\3 "127.0.0.1"%s\n\g<0>' % (
            "," if path.suffix.startswith(".json") else ""), text)
    path.write_text(text)
    return ports


def is_supported(table: Table, name: str) -> bool:
    return any(key.name == name for key in table.keys)
