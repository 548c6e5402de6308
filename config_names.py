"""The ids that CONFIG has, for a shell that completes them: what can be read of it, in silence.

They need not be right: words are completed also while somebody works on the file.
"""

import os
import re
from typing import Iterator, List

import default_config
import documents
from errors import PupgeventError

#: An id has nothing in it that a shell could take for something else.
_ID = re.compile(r"[a-zA-Z0-9@._-]{1,64}\Z")

#: Instances of one process that are offered.
_MOST_INSTANCES = 1000


def names(place: str, config: str) -> List[str]:
    """What can stand at PROCESS or at ID of the usage; a CONFIG of "" is the one of the folder."""
    try:
        values = documents.read(config or default_config.find()).values
    except PupgeventError:
        return []
    processes = values.get("processes")
    found = [each for each in processes if isinstance(each, dict) and _is_id(each.get("id"))
             ] if isinstance(processes, list) else []
    if place == "ID":
        return [each["id"] for each in found if isinstance(each.get("cluster"), dict)]
    members = [name for each in found for name in _instances(each["id"], each.get("cluster"))]
    return [*(each["id"] for each in found), *members, "all"]


def _is_id(value: object) -> bool:
    return isinstance(value, str) and _ID.match(value) is not None


def _instances(process_id: str, cluster: object) -> "Iterator[str]":
    if isinstance(cluster, dict):
        count = cluster.get("instances", 1)
        if count == "auto":
            count = len(os.sched_getaffinity(0))
        if isinstance(count, int):
            for number in range(min(count, _MOST_INSTANCES)):
                yield "%s-%d" % (process_id, number + 1)


