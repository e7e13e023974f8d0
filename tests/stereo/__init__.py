"""The whole thing: two Patroni nodes with PostgreSQL and the witness, each on a
machine of its own, applications that write, and an observer that notes what happens
when. Verbs, so that a scenario reads like what it tells."""

from rig.network import Machine, Network

from .application import Application
from .cluster import DEFAULTS, FAST, Stereo
from .failover import Failover, fail_over
from .node import Node
from .observer import Observer

__all__ = ["DEFAULTS", "FAST", "Application", "Failover", "Machine", "Network", "Node", "Observer",
           "Stereo", "fail_over"]
