"""Workers, stores and clients that die, freeze and lose replies, with a ledger outside Redis to tell what was lost or doubled."""
