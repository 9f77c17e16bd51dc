"""Players: a sound with its name, and a picture of it where there is one."""

from __future__ import annotations

from accomp.core.pages.html import Html, tag


def player(
    caption: str,
    source: str,
    *,
    about: str,
    picture: str | None = None,
    difference: str | None = None,
    made: bool = False,
    preload: str = "metadata",
    **data: str | None,
) -> Html:
    """A player for the sound at `source`, which may be data.

    about: the sound in full, for those who do not see where it stands. picture: of a spectrogram; difference: of that
    from another sound's. made: by a model.
    data: attributes for scripts, "data_song".
    """
    return tag(
        "figure",
        tag("figcaption", caption),
        None if picture is None else tag("img", src=picture, alt=f"Spectrogram: {about}"),
        None if difference is None else tag("img", src=difference, alt=f"Difference from the original: {about}"),
        tag("audio", controls=True, preload=preload, src=source, aria_label=about, **data),
        class_="player made" if made else "player",
    )
