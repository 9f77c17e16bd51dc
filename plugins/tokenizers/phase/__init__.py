from typing import Literal
Phase = Literal["heap", "peaks"]
def phase_rule(name, window, hop, rounds=None):
    from accomp.plugins.tokenizers.phase.heap import HeapPhases
    return HeapPhases(window, hop, 1 if rounds is None else rounds)
