"""Whom a run tells what happens to it, and whom an instance does: the ways back up."""

from typing import Any, List

from model import Process
from start_order import Blocker


class RunOwner:
    """Whom a run tells what happens to it. Called in the run's greenlet, or in that of its health
    checks; must not block."""

    def on_move(self, event: str) -> None:
        """READY or STOP has happened."""

    def on_news(self) -> None:
        """The run's `draining` is another, or its child has become unhealthy, or healthy again."""

    def on_unhealthy(self, reason: str) -> None:
        """Its child is unhealthy, still, and is to be replaced for that."""


class InstanceOwner:
    """Whom an instance tells and asks; called in its greenlet, or in that of an order to it. Must
    not block. The instance is an `Instance`."""

    def on_change(self, instance: Any) -> None:
        """Its state has changed, or what it waits for, or its health."""

    def blockers_of(self, process: Process) -> List[Blocker]:
        """Those that must be up before it is started, and are not."""
        return []

    def may_replace(self, instance: Any) -> bool:
        """Is none of the others of its process being started or stopped, so that its child can be
        replaced?"""
        return True
