"""What can be asked of an automatic mix. Data only."""

from __future__ import annotations

from mixtools.controls import Control

BASELINES = {
    "sum": "all stems as they are",
    "mono": "the mean of both channels of every stem, summed",
    "random": "gains from -12 to 12 dB and pans at random",
    "equal-loudness": "every stem at -48 LUFS",
}
"""Names, and what each does."""

TARGET_LUFS = Control("--target-lufs", "", -16.0, -60.0, 0.0)
CEILING_DBTP = -1.0
