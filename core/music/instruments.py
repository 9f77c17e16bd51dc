"""The 18 instrument classes of the streaming paper; a class's id is its index."""

import re

CLASSES = (
    "Piano", "Chromatic Percussion", "Organ", "Guitar", "Bass", "Strings", "Ensemble", "Brass", "Reed",
    "Pipe", "Synth Lead", "Synth Pad", "Synth Effects", "Ethnic", "Percussive", "Sound Effects", "Vocal", "Unknown",
)  # fmt: skip
DRUMS = CLASSES.index("Percussive")
NOT_TARGETS = frozenset({CLASSES.index("Vocal"), CLASSES.index("Unknown")})
MEMBERS = {
    "Chromatic Percussion": "vibraphone, bells", "Ensemble": "orchestra", "Reed": "saxophone, clarinet",
    "Pipe": "flute", "Ethnic": "banjo, sitar", "Percussive": "drums",
}  # fmt: skip
"""Well-known members of the classes whose names, General MIDI's, do not say what musicians would look for."""

_VAGUE = frozenset({"lead", "synth", "synthesizer", "pad", "effect", "ensemble", "section", "key"})
_NAMES = {  # in the singular, lower case
    "Piano": "piano, grand, rhode, wurlitzer, wurli, clavinet, clav, harpsichord, key, keyboard, epiano",
    "Chromatic Percussion": (
        "chromatic percussion, glockenspiel, vibraphone, vibe, marimba, xylophone, celesta, celeste, mallet, bell, "
        "tubular bell, music box, dulcimer, chime"
    ),
    "Organ": "organ, hammond, accordion, harmonica, bandoneon, melodica",
    "Guitar": "guitar, gtr, egtr, agtr, guit, pedal steel, lap steel, slide guitar",
    "Bass": (
        "bass, contrabass, double bass, upright bass, string bass, bass guitar, guitar bass, bass gtr, "
        "bass synth, bass synthesizer, subbass, sub bass, sub"
    ),
    "Strings": "string, violin, viola, cello, violoncello, fiddle, harp, pizzicato",
    "Ensemble": "ensemble, orchestra, orchestral, synth string",
    "Brass": "brass, trumpet, trombone, tuba, horn, french horn, cornet, flugelhorn, euphonium",
    "Reed": (
        "reed, sax, saxophone, clarinet, oboe, bassoon, english horn, cor anglais, woodwind, alto sax, tenor sax, "
        "soprano sax, baritone sax"
    ),
    "Pipe": "pipe, flute, piccolo, recorder, panpipe, pan flute, ocarina, whistle, tin whistle, shakuhachi",
    "Synth Lead": "synth lead, lead synth, lead, synth, synthesizer, arp, arpeggio, pluck",
    "Synth Pad": "synth pad, pad synth, pad",
    "Synth Effects": "synth effect, synth fx",
    "Ethnic": (
        "ethnic, banjo, mandolin, ukulele, uke, sitar, bagpipe, koto, shamisen, kalimba, shanai, oud, bouzouki, erhu, "
        "other plucked"
    ),
    "Percussive": (
        "percussive, percussion, perc, drum, drumkit, drumset, drum kit, drum set, drum machine, bass drum, "
        "steel drum, kick, snare, tom, hat, hi hat, hihat, cymbal, ride, crash, overhead, shaker, conga, bongo, clap, "
        "tambourine, cowbell, timpani, cajon, tabla, djembe, beat, pitched percussion"
    ),
    "Sound Effects": "sound effect, fx, sfx, effect, riser, noise, ambience, foley",
    "Vocal": (
        "vocal, vox, voice, singer, male singer, female singer, choir, bgv, backing, backing vocal, vocoder, "
        "beatboxing, rap, chorus vocal, acapella, lead vocal, lead vox"
    ),
}  # fmt: skip
_PHRASES = {phrase: CLASSES.index(name) for name, text in _NAMES.items() for phrase in text.split(", ")}


def from_program(program: int, *, is_drum: bool = False) -> int:
    """Return the class of General MIDI `program` (0-based, 0..127): program // 8, drums are Percussive.

    Raises ValueError for a program outside 0..127.
    """
    if is_drum:
        return DRUMS
    if not 0 <= program <= 127:
        raise ValueError(f"General MIDI program {program}; expected 0..127")
    return program // 8


def from_name(name: str) -> int | None:
    """Return the class of the instrument in a name such as "Bass_Guitar 2", "kick" or "leadVox"; None if there is none.

    The longest known phrase decides ("bass guitar", not "guitar"), then the last one ("bass clarinet" is a clarinet); a
    qualifier ("lead", "synth") counts only where there is no other. Text in brackets or after a comma or slash counts
    only where nothing before it does.
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    for part in re.split(r"[(),/]", spaced):
        words = tuple(_singular(word) for word in re.findall(r"[a-z]+", part))
        found = [
            (phrase not in _VAGUE, size, start, _PHRASES[phrase])
            for size in range(1, 4)
            for start in range(len(words) - size + 1)
            if (phrase := " ".join(words[start : start + size])) in _PHRASES
        ]
        if found:
            return max(found)[-1]
    return None


def readable(name: str) -> str:
    """Return a class's name with well-known members: "Percussive (drums)"."""
    return f"{name} ({MEMBERS[name]})" if name in MEMBERS else name


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us")) else word
