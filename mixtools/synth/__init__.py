"""The seeded song synthesiser: any number of different multitrack songs, and plausible mixes of them."""

from mixtools.synth.mixing import finished_mix
from mixtools.synth.song import Song, synth_song
from mixtools.synth.styles import STYLES as _STYLES

STYLES = tuple(_STYLES)
"""The names of the styles that songs come in."""

__all__ = ["STYLES", "Song", "finished_mix", "synth_song"]
