"""Random programs of all constructs, one inside the other: what a run of one comes to is worked out beside it."""
