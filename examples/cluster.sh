#!/usr/bin/env bash
#SBATCH --job-name=mixes
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=00:30:00
#SBATCH --output=%x-%A_%a.log
# Mix every song of a list, one song per task: OUT/NAME.wav, its mix file NAME.yaml, and NAME.master.wav.
#
#   printf '%s\n' songs/*/ > songs.txt
#   sbatch --array=1-$(wc -l < songs.txt)%20 cluster.sh songs.txt OUT      a cluster with Slurm, 20 at a time
#   seq $(wc -l < songs.txt) | parallel -j 4 ./cluster.sh songs.txt OUT    one machine, with GNU parallel
#   seq $(wc -l < songs.txt) | xargs -n 1 -P 4 ./cluster.sh songs.txt OUT  or with xargs
#
# A song's NAME is the last part of its folder. Where the folder has a mix.yaml, that is rendered; else, where REF names
# a record, the song is mixed like it; else by rules. What is done is skipped, so after failures or a time limit the
# same line does the rest. Names may have spaces.
set -euo pipefail

list=${1:?usage: ./cluster.sh LIST OUT [LINE]} out=${2:?usage: ./cluster.sh LIST OUT [LINE]}
line=${3:-${SLURM_ARRAY_TASK_ID:?give the number of a line, or let Slurm do so with --array}}
threads=${SLURM_CPUS_PER_TASK:-1}

name_of() { sed 's:/*$::; s:.*/::'; }
song=$(sed -n "${line}p" "$list")
name=$(name_of <<< "$song")
: "${name:?line $line of $list names no song}"
if [ "$(name_of < "$list" | grep -cxF -- "$name")" -gt 1 ]; then
    echo "$list names several songs $name; rename a folder" >&2
    exit 2
fi

# An output has its name only when it is whole, so what is there is done. The mix file is written with the mix: --force.
mix="$out/$name.wav"
mkdir -p "$out"
if [ ! -e "$mix" ]; then
    made=(-o "$mix" --write-mix "$out/$name.yaml" --threads "$threads" --force)
    if [ -e "${song%/}/mix.yaml" ]; then
        mixtools mix "$song" -p "${song%/}/mix.yaml" "${made[@]}"
    elif [ -n "${REF:-}" ]; then
        mixtools transfer "$song" "$REF" "${made[@]}"
    else
        mixtools mix "$song" "${made[@]}"
    fi
fi
[ -e "$out/$name.master.wav" ] || mixtools loudnorm "$mix" --preset streaming -o "$out/$name.master.wav" --jobs 1
