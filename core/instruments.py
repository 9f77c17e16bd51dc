"""The 18 instrument classes of the streaming paper; a class's id is its index."""

CLASSES = (
    "Piano", "Chromatic Percussion", "Organ", "Guitar", "Bass", "Strings", "Ensemble", "Brass", "Reed",
    "Pipe", "Synth Lead", "Synth Pad", "Synth Effects", "Ethnic", "Percussive", "Sound Effects", "Vocal", "Unknown",
)  # fmt: skip
DRUMS = CLASSES.index("Percussive")
NOT_TARGETS = frozenset({CLASSES.index("Vocal"), CLASSES.index("Unknown")})


def from_program(program: int, *, is_drum: bool = False) -> int:
    """Class of General MIDI `program` (0-based, 0..127): program // 8, drums are Percussive.

    Raises ValueError for a program outside 0..127.
    """
    if is_drum:
        return DRUMS
    if not 0 <= program <= 127:
        raise ValueError(f"General MIDI program {program}; expected 0..127")
    return program // 8
