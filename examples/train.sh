#!/usr/bin/env bash
# Train a model that mixes, and mix with it:
#
#   ./train.sh SONGS STEMS           one GPU, or the processor where there is none
#   GPUS=4 ./train.sh SONGS STEMS    four GPUs of this machine, a process for each
#
# SONGS is a folder of songs with their stems, or synth:SEED; STEMS is what to mix in the end, into RUN/mix.wav.
# Interrupted, killed, or out of time, the same line goes on from the last checkpoint and comes to the same weights, as
# long as GPUS and FLAGS are what they were. A larger STEPS lets a finished training go on.
#
# The papers' whole channel is a second training, which begins with what the first one found:
#
#   RUN=full FLAGS='--kind dmc-full --weights run/model.safetensors' ./train.sh SONGS STEMS
set -euo pipefail

songs=${1:?usage: ./train.sh SONGS STEMS} stems=${2:?usage: ./train.sh SONGS STEMS}
RUN=${RUN:-run}
GPUS=${GPUS:-1}
STEPS=${STEPS:-10000}
FLAGS=${FLAGS:-} # such as --batch 8: a step sees that many excerpts on every GPU

train=(mixtools)
if [ "$GPUS" -gt 1 ]; then
    # torchrun starts the same command once per GPU, and the processes share the cores; --standalone finds a port of its
    # own, so that several trainings fit on one machine.
    export OMP_NUM_THREADS=$((($(nproc) + GPUS - 1) / GPUS))
    train=(torchrun --standalone --nproc-per-node "$GPUS" -m mixtools)
    FLAGS="--threads $OMP_NUM_THREADS $FLAGS"
fi

# --resume also begins what there is nothing of yet. FLAGS is split into words on purpose.
"${train[@]}" train mix "$songs" -o "$RUN" --steps "$STEPS" --resume $FLAGS

mixtools mix "$stems" --model "$RUN/model.safetensors" -o "$RUN/mix.wav" --write-mix "$RUN/mix.yaml" --force
