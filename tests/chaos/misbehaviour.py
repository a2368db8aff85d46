"""Ways in which the chaos handlers misbehave, if the deployment asks for it: they exit, raise what is no Exception, harm their loop or thread."""

import _thread
import asyncio
import ctypes
import os
import random
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

SHARE = "FLOWCRAFT_CHAOS_HOSTILE"
"""Variable with the share of handler calls that misbehave, such as 0.05. Unset: none."""


class Outrage(BaseException):
    """What a handler raises that no `except Exception` catches."""


def leave_by_exit() -> NoReturn:
    """As argparse leaves."""
    sys.exit("usage: step [-h]")


def leave_by_own_exception() -> NoReturn:
    """A subclass of BaseException alone."""
    raise Outrage("not an Exception")


def leave_by_interrupt() -> NoReturn:
    """As if Ctrl-C had reached this thread."""
    raise KeyboardInterrupt


def leave_by_generator_exit() -> NoReturn:
    """As a generator that is closed."""
    raise GeneratorExit


def end_thread() -> None:
    """Have the interpreter raise SystemExit in this very thread, at whatever line it is by then."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.get_ident()), ctypes.py_object(SystemExit))


def end_thread_by_hand() -> None:
    """As the oldest way out of a thread does it."""
    _thread.exit()


def stop_loop() -> None:
    """Stop the event loop that all coroutines of the process share."""
    asyncio.get_running_loop().stop()


def close_loop() -> None:
    """Close it as soon as it has stopped."""
    loop = asyncio.get_running_loop()
    loop.call_soon(loop.stop)
    threading.Thread(target=_close_once_stopped, args=(loop,), daemon=True).start()


def _close_once_stopped(loop: asyncio.AbstractEventLoop) -> None:
    pause = threading.Event()
    for _ in range(200):
        if not loop.is_running():
            loop.close()
            return
        pause.wait(0.001)


def cancel_all_tasks() -> None:
    """Cancel every task of the loop, this one included."""
    for task in asyncio.all_tasks():
        task.cancel()


def raise_in_callback() -> None:
    """Have the loop meet SystemExit outside of any task."""
    asyncio.get_running_loop().call_soon(sys.exit, "from a callback")


ANYWHERE: tuple[Callable[[], None], ...] = (
    leave_by_exit, leave_by_own_exception, leave_by_interrupt, leave_by_generator_exit, end_thread_by_hand,
)  # fmt: skip
IN_FUNCTIONS = (*ANYWHERE, end_thread)
IN_COROUTINES = (*ANYWHERE, stop_loop, close_loop, cancel_all_tasks, raise_in_callback)


def perhaps_misbehave(ctx: Any) -> None:
    """Misbehave in a share of the calls: which, follows from run, node and fencing token, so that a seed repeats it."""
    share = float(os.environ.get(SHARE) or 0)
    if not share:
        return
    chance = random.Random(f"{ctx.run_id} {ctx.node_id} {ctx.item} {ctx.fencing_token}")
    if chance.random() < share:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            chance.choice(IN_FUNCTIONS)()
        else:
            chance.choice(IN_COROUTINES)()
