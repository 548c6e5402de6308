"""A whole runtime inside the test: its file, its children, its lines, and what is asked of it."""

import contextlib
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

import gevent

import configuration
from file_restarts import FileRestarts
from instance import Instance
from operations import Operations
from outlets import Outlets
from runtime import Runtime, RuntimeOwner
from supervision import PATIENCE, Page, gevent_waits_for_children, script, wait_until


class RuntimeStage(NamedTuple):
    """A runtime at work."""

    config: Path
    runtime: Runtime
    operations: Operations
    #: What the console has got.
    console: Page
    #: What the changes under way have told, one by one.
    told: List[str]
    #: Names of essential instances that were given up.
    essential: List[str]

    def write(self, processes: Any, **top: Any) -> None:
        self.config.write_text(json.dumps(dict(top, processes=processes)))

    def reload(self, processes: Any = None, **top: Any) -> str:
        """Write the file where there is something to write, read it again; the sentence."""
        if processes is not None:
            self.write(processes, **top)
        with gevent.Timeout(PATIENCE):
            return self.operations.reload(self.told.append)

    def instance(self, name: str) -> Instance:
        return self.runtime.supervisor.instances[name]

    def reaches(self, state: str, name: str) -> Instance:
        wait_until(lambda: self.instance(name).state == state, PATIENCE,
                   lambda: "%s is %s: %s" % (
                       name, self.instance(name).state, self.console.lines[-30:]))
        return self.instance(name)

    def states(self) -> Dict[str, str]:
        return {each.name: each.state for each in self.runtime.instances()}

    def pids(self) -> Dict[str, Optional[int]]:
        return {each.name: each.pid for each in self.runtime.instances()}

    def remembered(self) -> str:
        """What `pupgevent logs` shows."""
        return b"".join(self.runtime.history.last(None)).decode("utf-8", "backslashreplace")


class Owner(RuntimeOwner):
    """Notes the essential instances that are given up."""

    def __init__(self) -> None:
        self.essential: List[str] = []
        self.file_restarts: Optional[FileRestarts] = None

    def on_essential(self, name: str) -> None:
        self.essential.append(name)

    def on_configured(self) -> None:
        if self.file_restarts is not None:
            self.file_restarts.on_configured()


@contextlib.contextmanager
def inside(folder: Path, processes: Any, **top: Any) -> Iterator[RuntimeStage]:
    """Run them until the block ends, once all with `autostart` run; nothing of them is left."""
    config = folder / "app.json"
    config.write_text(json.dumps(dict(top, processes=processes)))
    loaded = configuration.load(str(config))
    page, owner = Page(), Owner()
    with gevent_waits_for_children(), open(str(config)) as no_terminal:
        outlets = Outlets(loaded.logger, page, no_terminal.fileno())
        runtime = Runtime(loaded, outlets, owner)
        operations = Operations(runtime, contextlib.ExitStack)
        stage = RuntimeStage(config, runtime, operations, page, [], owner.essential)
        owner.file_restarts = FileRestarts(runtime, operations)
        try:
            runtime.listen()
            runtime.start()
            owner.file_restarts.start()
            for each in runtime.instances():
                if each.process.autostart:
                    stage.reaches("running", each.name)
            yield stage
        finally:
            owner.file_restarts.close()
            with gevent.Timeout(PATIENCE):
                runtime.kill()
                runtime.shutdown()


def sleeper(process_id: str, **more: Any) -> Any:
    """A process without a port that does nothing."""
    return dict({"id": process_id, "cmd": ["sleep", "600"], "autostart": True}, **more)


def listening(process_id: str, first: int, common: Optional[int] = None, *, instances: int = 1,
              more: Any = (), **cluster: Any) -> Any:
    """A cluster whose instances listen from port `first` on; `more` is of the process itself."""
    cluster.update(instances=instances, startPort=first)
    if common is not None:
        cluster.update(commonPort=common, commonHost="127.0.0.1")
    return dict({
        "id": process_id, "cmd": list(script("listener.py")), "autostart": True,
        "terminateGracePeriod": 0, "cluster": cluster,
    }, **dict(more))  # fmt: skip
