"""How good the guard is on labelled texts: rows, what came of each, and figures with their intervals."""
