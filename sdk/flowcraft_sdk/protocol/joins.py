"""What the decisions of a join's edges say, as the scripts keep them in the run's hash: see `joins.lua`. Pure."""


def taken_edges(marks: str | None, count: int) -> list[int]:
    """Which incoming edges of a node were taken, the last one first; of a wide join only those that may have brought its input.

    Args:
        marks: field `j:<node>` of the run, None if absent: the node has one edge, or none of them is decided.
        count: how many edges there are.

    Returns:
        Their places, from 0.
    """
    if marks is None:
        return list(range(count))[-1:]
    if not marks.startswith("#"):
        return [place for place in reversed(range(len(marks))) if marks[place] == "t"]
    *_, last, transform = (int(number) for number in marks[1:].split("|"))
    return [position - 1 for position in dict.fromkeys((last, transform)) if position]
