"""What is released, by whom, and why: versions, channels, the ledger, operations, decisions, leases, the kill switch.

    db = Database.sqlite(home.database)
    db.create()
    registry, channels, ledger = Registry(db, ArtifactStore(home.artifacts)), Channels(db), Ledger(db)

Every class here is a short, synchronous face of some tables of one database, safe to use from several processes.
"""

from .campaigns import Campaign, Campaigns, Status
from .channels import Channel, Channels, Move, Pointer, parse_channel
from .decisions import Answer, Decisions, Request
from .leases import Lease
from .ledger import Checkpoint, Entry, Event, EventKind, Fault, Inclusion, Ledger
from .operations import Operation, Operations
from .registry import Registry, VersionRecord
from .stop import EVERYTHING, KillSwitch, Stop
from .trajectories import Indexed, TrajectoryIndex

__all__ = [
    "EVERYTHING",
    "Answer",
    "Campaign",
    "Campaigns",
    "Channel",
    "Channels",
    "Checkpoint",
    "Decisions",
    "Entry",
    "Event",
    "EventKind",
    "Fault",
    "Inclusion",
    "Indexed",
    "KillSwitch",
    "Lease",
    "Ledger",
    "Move",
    "Operation",
    "Operations",
    "Pointer",
    "Registry",
    "Request",
    "Status",
    "Stop",
    "TrajectoryIndex",
    "VersionRecord",
    "parse_channel",
]
