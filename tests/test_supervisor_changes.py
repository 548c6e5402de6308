"""The set of instances and their values, changed while they live."""

from typing import Callable, List

from model import instance_specs
from supervision import cluster, process, script, supervise


def test_added_process_is_there_and_not_started() -> None:
    with supervise(process()) as stage:
        added = stage.supervisor.add_process(process(id="new"))
        assert [each.name for each in added] == ["new"]
        assert stage.instance("new").state == "created"
        assert stage.supervisor.start(["new"]) == []


def test_instance_is_added_to_a_process_that_is_there() -> None:
    two = process(cluster=cluster(None, 2))
    with supervise(process(cluster=cluster(None, 1))) as stage:
        pid = stage.pid("app-1")
        added = stage.supervisor.add(two, instance_specs(two)[1])
        assert (added.name, added.index, added.state) == ("app-2", 1, "created")
        assert stage.supervisor.start(["app-2"]) == []
        assert stage.pid("app-1") == pid


def test_removed_process_has_stopped_and_left_its_rotation() -> None:
    with supervise(process(), process(id="gone")) as stage:
        instance = stage.reaches("running", "gone")
        stage.supervisor.remove_process("gone")
        assert instance.state == "stopped" and instance.pid is None
        assert list(stage.supervisor.instances) == ["app"]
        assert stage.ledger.told == [("remove", "gone")]


def test_removed_instances_drain_and_stop_side_by_side(
    free_ports: Callable[[int], List[int]]
) -> None:
    listening = process(script("listener.py"), cluster=cluster(free_ports(3)[0], 3),
                        terminate_grace_period=5.0)
    with supervise(listening) as stage:
        for number in (1, 2, 3):
            stage.reaches("running", "app-%d" % number)
        stage.ledger.told.clear()
        stage.supervisor.remove(stage.supervisor.instances_of("app")[1:])
        assert list(stage.supervisor.instances) == ["app-1"]
        for name in ("app-2", "app-3"):
            mine = [told for told in stage.ledger.told if told[1] == name]
            assert mine == [(what, name) for what in ("drain", "drained", "down", "remove")]


def test_what_no_child_depends_on_applies_at_once() -> None:
    with supervise(process(script("stubborn.py"), terminate_timeout=60.0)) as stage:
        stage.prints("ignoring")
        changed = process(script("stubborn.py"), terminate_timeout=0.2)
        stage.instance().replace(changed, instance_specs(changed)[0])
        stage.supervisor.stop(["app"])
        assert stage.instance().last_exit == "SIGKILL"


def test_a_limit_of_time_holds_from_when_it_is_changed() -> None:
    """For the run that is under way, and by the clock of the supervisor."""
    limits = {"none": 1000.0, "longer": 1000.0, "shorter": None}
    with supervise(*(process(id=name, timeout=limit) for name, limit in limits.items())) as stage:
        before = {name: stage.pid(name) for name in limits}
        stage.clock.ahead = 3000.0
        for name, limit in (("none", None), ("longer", 5000.0), ("shorter", 2000.0)):
            changed = process(id=name, timeout=limit)
            stage.instance(name).replace(changed, instance_specs(changed)[0])
        stage.prints("warning: runs longer than 2000 s, stopping it", "[shorter][core]")
        stage.reaches("errored", "shorter")
        for name in ("none", "longer"):
            assert (stage.instance(name).pid, stage.states(name)) == (
                before[name], ["starting", "running"])


def test_another_command_waits_for_the_next_start() -> None:
    with supervise(process()) as stage:
        pid = stage.reaches("running").pid
        changed = process("echo new; exec sleep 60")
        stage.instance().replace(changed, instance_specs(changed)[0])
        assert stage.instance().pid == pid
        stage.supervisor.stop(["app"])
        stage.supervisor.start(["app"])
        stage.prints("new")


def test_values_are_followed_when_the_next_start_has_them_too() -> None:
    old, new = process(), process("echo new; exec sleep 60")
    with supervise(old) as stage:
        stage.pid()
        instance, (spec,) = stage.instance(), instance_specs(old)
        assert instance.follows(old, spec) and not instance.follows(new, spec)
        instance.replace(new, spec)
        assert not instance.follows(old, spec) and not instance.follows(new, spec)
        stage.supervisor.stop(["app"])
        stage.supervisor.start(["app"])
        assert instance.follows(new, spec)
        assert not instance.follows(new, spec._replace(host="127.0.0.2"))


def test_another_command_for_what_fails_is_tried_next() -> None:
    with supervise(process(("no-such-program",), restart="always", restart_delay=0.2)) as stage:
        stage.reaches("backoff")
        changed = process(restart="always")
        stage.instance().replace(changed, instance_specs(changed)[0])
        stage.reaches("running")


def test_another_port_is_used_from_the_next_start(free_ports: Callable[[int], List[int]]) -> None:
    old, new = free_ports(2)
    with supervise(process(script("listener.py"), cluster=cluster(old))) as stage:
        stage.reaches("running", "app-1")
        changed = process(script("listener.py"), cluster=cluster(new))
        stage.instance("app-1").replace(changed, instance_specs(changed)[0])
        assert stage.instance("app-1").port == old
        stage.supervisor.stop(["app-1"])
        stage.supervisor.start(["app-1"])
        assert stage.instance("app-1").port == new
        assert stage.ledger.told == [("up", "app-1", old), ("down", "app-1"), ("up", "app-1", new)]
