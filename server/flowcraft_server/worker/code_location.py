"""Which line of which file a thread is at: of the handler's code, not of the libraries that it calls."""

import sysconfig
from types import FrameType

_LIBRARIES = tuple(
    path for name in ("stdlib", "platstdlib", "purelib", "platlib") if (path := sysconfig.get_path(name)) is not None
)
MOST_FRAMES = 200
MOST_TEXT = 300


def describe_place(frame: FrameType | None) -> str:
    """`file:line in function` of the innermost frame outside of installed libraries, of the innermost one if all are in some."""
    if frame is None:
        return "an unknown place"
    chosen, looked_at = frame, 0
    inner: FrameType | None = frame
    while inner is not None and looked_at < MOST_FRAMES:
        name = inner.f_code.co_filename
        if not name.startswith((*_LIBRARIES, "<")) and not inner.f_globals.get("__name__", "").startswith(
            "flowcraft_server."
        ):
            chosen = inner
            break
        inner, looked_at = inner.f_back, looked_at + 1
    return f"{chosen.f_code.co_filename}:{chosen.f_lineno} in {chosen.f_code.co_name}"[:MOST_TEXT]


def raised_at(error: BaseException) -> str:
    """`Type: message, raised in file:line` of the innermost line of the user's code that led to an error."""
    text = " ".join(str(error).split())[:MOST_TEXT]
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    place, trace, frames = "", error.__traceback__, 0
    while trace is not None and frames < MOST_FRAMES:
        name = trace.tb_frame.f_code.co_filename
        module = trace.tb_frame.f_globals.get("__name__", "")
        if not name.startswith((*_LIBRARIES, "<")) and not module.startswith("flowcraft_server."):
            place = f", raised in {name}:{trace.tb_lineno}"
        trace, frames = trace.tb_next, frames + 1
    return what + place


def describe_stack(frame: FrameType | None, most: int = 12) -> str:
    """The innermost frames of a thread, one a line, the innermost one last."""
    lines: list[str] = []
    while frame is not None and len(lines) < most:
        lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"[:MOST_TEXT])
        frame = frame.f_back
    return "\n".join(reversed(lines))
