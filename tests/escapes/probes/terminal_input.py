"""Type into the terminal of the host, as if its user did (TIOCSTI, TIOCLINUX), or write over what it shows."""

import fcntl
import os
import pty
import termios


def prepare(arena):
    master, slave = pty.openpty()
    arena.stack.callback(os.close, master)
    arena.stack.callback(os.close, slave)
    os.set_blocking(master, False)
    attributes = termios.tcgetattr(slave)
    attributes[3] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    os.set_blocking(slave, False)
    arena.memory |= {"master": master, "slave": slave}
    return {"terminal": os.ttyname(slave)}


def attack(given, attempt):
    terminals = [given["terminal"], "/dev/tty", "/dev/console", "/dev/tty0", *(f"/dev/pts/{n}" for n in range(4))]
    for path in terminals if given["guarded"] else [given["terminal"]]:
        for flags in (os.O_RDWR | os.O_NOCTTY, os.O_RDONLY | os.O_NOCTTY, os.O_WRONLY):
            attempt(f"{path} {flags}", lambda path=path, flags=flags: inject(os.open(path, flags | os.O_NONBLOCK)))
    for number in range(3):
        attempt(f"descriptor {number}", lambda number=number: inject(number))


def inject(terminal):
    try:
        for code in (0x5412, (1 << 32) + 0x5412):
            fcntl.ioctl(terminal, code & 0xFFFFFFFF, b"!")
    finally:
        if terminal > 2:
            os.write(terminal, b"!")


def verdict(arena, result):
    found = []
    for side, what in (("slave", "was typed into the host's terminal"), ("master", "was shown on the host's terminal")):
        try:
            if os.read(arena.memory[side], 64):
                found.append(f"something {what}")
        except OSError:
            continue
    return found
