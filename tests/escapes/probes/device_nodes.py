"""Open the host's devices: disks, memory, terminals, the network's and the hypervisor's."""

import glob
import os


def attack(given, attempt):
    names = sorted(
        set(glob.glob("/dev/*") + glob.glob("/dev/net/*") + glob.glob("/dev/mapper/*") + glob.glob("/dev/dri/*"))
    )
    names += [
        "/dev/mem",
        "/dev/kmem",
        "/dev/kmsg",
        "/dev/kvm",
        "/dev/fuse",
        "/dev/sda",
        "/dev/vda",
        "/dev/nvme0n1",
        "/dev/port",
    ]
    names += ["/dev/loop-control", "/dev/net/tun", "/dev/vhost-net", "/dev/userfaultfd", "/dev/uinput", "/dev/console"]
    for name in dict.fromkeys(names):
        if os.path.isdir(name) or name.startswith(("/dev/watchdog", "/dev/std")):
            continue
        attempt(name, lambda name=name: os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY))
    attempt.hold()


def meanwhile(arena):
    from ..watching import held

    return sorted({f"{each.target} {each.device} is open" for each in held(arena.tagged()) if each.device})


def verdict(arena, result):
    return []
