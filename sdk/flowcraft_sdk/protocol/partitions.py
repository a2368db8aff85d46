"""The partitions of a deployment: which one a run lies in, and the key names of each.

A run lies in one partition with all its children, so that each change of it is one script on one slot. Nothing but this module
knows which: everything else asks `Partitions.for_run`.
"""

from binascii import crc_hqx

from flowcraft_sdk.protocol.keys import Keys

MOST_PARTITIONS = 256
"""As many partitions as a deployment may have. Each costs a worker a look four times a second."""

PARTITIONS_FIELD = "partitions"
"""Of `Keys.settings` of the first partition: how many there are. A deployment without the field has one."""


def root_of(run_id: str) -> str:
    """The id of the outermost parent of a run: child runs are `PARENT~NUMBER`, and users can give no run an id with `~`."""
    return run_id.partition("~")[0]


def is_child_of_node(run_id: str) -> bool:
    """Whether a node of another run has started a run: it is `PARENT~NUMBER` then."""
    return run_id.rpartition("~")[2].isdecimal() and "~" in run_id


class Partitions:
    """The partitions of a namespace.

    Args:
        namespace: the deployment's `name`.
        count: how many there are; fixed for the life of the deployment.

    Attributes:
        all: the keys of each partition, by its number.
        home: the keys of the first one, where everything lies that is there once in a deployment.
        inbox_prefixes: what the channels of a client's inbox begin with, in each partition.

    Raises:
        ValueError: there cannot be so many.
    """

    def __init__(self, namespace: str, count: int = 1) -> None:
        if not 1 <= count <= MOST_PARTITIONS:
            raise ValueError(f"a deployment has 1 to {MOST_PARTITIONS} partitions, got {count}")
        self.namespace = namespace
        self.count = count
        self.all = tuple(Keys(namespace, number, notified=count > 1) for number in range(count))
        self.home = self.all[0]
        self.inbox_prefixes = tuple(keys.inbox_prefix for keys in self.all)

    def for_run(self, run_id: str) -> Keys:
        """The keys of the partition in which a run lies, with all its children."""
        if self.count == 1:
            return self.home
        return self.all[crc_hqx(root_of(run_id).encode(), 0) % self.count]  # CRC16/XMODEM, as Redis Cluster has it

    def for_memory(self, memory_id: str) -> Keys:
        """The keys of the partition in which a conversation lies that agents keep: whichever runs they are in, it is the same."""
        return self.all[crc_hqx(memory_id.encode(), 0) % self.count]
