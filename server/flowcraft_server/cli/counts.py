"""Numbers of things in what the commands print. The SDK is loaded only where something is counted, so that help is quick."""


def counted(number: int, one: str, several: str = "") -> str:
    """A number of things, see `flowcraft_sdk.records.counts`."""
    from flowcraft_sdk.records.counts import counted as counted_by_the_sdk

    return counted_by_the_sdk(number, one, several)
