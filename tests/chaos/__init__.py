"""Workers, stores and clients that die, freeze and lose replies, with a ledger outside Redis to report what was lost or doubled."""
