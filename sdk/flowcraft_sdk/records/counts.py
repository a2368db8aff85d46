"""Numbers of things, as messages show them."""


def counted(number: int, one: str, several: str = "") -> str:
    """A number of things: `1 error`, `1,200 errors`.

    Args:
        number: how many.
        one: the name of one.
        several: the name of several; by default with an `s` behind it.
    """
    return f"{number:,} {one if number == 1 else several or one + 's'}"
