"""Python's garbage collector in a process that does nothing but work."""

import gc

YOUNG = 2_500
"""Objects made and not yet gone after which the youngest are looked through. Python's 700 is a third of what the claims
of one reply make, and nine of ten times nothing is found."""


def collect_less_often() -> None:
    """Have garbage looked for less often, and not among what is there by now: modules and handlers.

    A look at everything stops all threads, for 40 ms under load, without any libraries of a user's. To be called once all is
    loaded, by a process of our own. A limit that a handler's module has set higher, or to 0, stays.
    """
    gc.collect()
    gc.freeze()
    first, *others = gc.get_threshold()
    if 0 < first < YOUNG:
        gc.set_threshold(YOUNG, *others)
