#!/usr/bin/env bash
# Trains a mini further, on other scenes or for longer, in two to three hours on two CPU cores:
#   bash scripts/mini/further.sh RUN [CHECKPOINT]
# CHECKPOINT is the folder to start from, the shipped mini if not given. Goes on where it was interrupted.
# Nothing else should run meanwhile: torch's threads wait for each other, and slow down tenfold.
set -euo pipefail
run=${1:?give a folder for pictures and checkpoints}
here=$(dirname "${BASH_SOURCE[0]}")
start=${2:-$here/../../src/llava_cot/mini}
python=${PYTHON:-python}
"$python" "$here/pictures.py" --out "$run" --count 80000
"$python" "$here/vision.py" --run "$run" --start "$start" --steps 6000 --batch 64 --rate 1.2e-3
"$python" "$here/sft.py" --run "$run" --name wider --start "$start" --vision --steps 3000 --muon 0.006 \
  --rate 1.5e-3 --shares 0.33 0.42 0.17 0 0.08
"$python" "$here/duels.py" --run "$run" --name wider --captions 1920 --answers 960
"$python" "$here/sft.py" --run "$run" --name judge --start wider --steps 2900 --muon 0.005 --rate 1.2e-3 \
  --shares 0.12 0.62 0.22 0 0.04 --duels "$run/duels.jsonl"
"$python" "$here/sft.py" --run "$run" --name both --start judge --steps 1350 --muon 0.003 --rate 8e-4 \
  --shares 0.47 0.33 0.15 0 0.05 --duels "$run/duels.jsonl"
"$python" "$here/export.py" --run "$run" --name both --out "$here/../../src/llava_cot/mini"
