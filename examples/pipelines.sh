#!/usr/bin/env bash
# Shell pipelines over a folder of stems: ./pipelines.sh STEMS OUT
set -euo pipefail
export LC_ALL=C # whose numbers have a point

stems=${1:?usage: ./pipelines.sh STEMS OUT} out=${2:?usage: ./pipelines.sh STEMS OUT}
mkdir -p "$out"

# A mix and its master in one go, with no file in between.
mixtools mix "$stems" --write-mix "$out/rules.yaml" -o - --force |
    mixtools loudnorm - --preset streaming -o "$out/master.wav" --force

# A mix file is text: the same mix without its reverb, from sed.
sed '/sends:/d' "$out/rules.yaml" | mixtools mix "$stems" -p - -o "$out/dry.wav" --force

# The stems from the loudest to the softest: where to begin with the faders.
mixtools features "$stems" --group loudness --csv |
    tail -n +2 | sort -t, -k5,5gr | cut -d, -f1,5 > "$out/by_loudness.csv"

# One mix at the loudness of several places, all at once.
printf '%s\n' ebu podcast |
    xargs -P 2 -I{} mixtools loudnorm "$out/dry.wav" --preset {} -o "$out/{}.flac" --jobs 1 --force

# A gate for a build: it fails where a peak is over -1 dBTP.
mixtools loudnorm "$out"/*.flac "$out/master.wav" --measure --csv |
    awk -F, 'NR > 1 && $NF > -0.95 { print $1 " peaks at " $NF " dBTP"; over = 1 } END { exit over }'

# The widest of some mixes, by jq, which knows JSON's numbers by name.
if command -v jq > /dev/null; then
    mixtools features "$out/master.wav" "$out/dry.wav" --group stereo --json | jq -r 'max_by(.stereo.width).file'
fi
