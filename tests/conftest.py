"""What holds for all tests."""

import signal


def pytest_configure() -> None:
    """Have interrupts and hang-ups arrive: under `nohup`, or behind `&` in a script, they are ignored, by children as well."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
