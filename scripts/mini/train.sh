#!/usr/bin/env bash
# Trains mini from nothing, in about three hours on two CPU cores: bash scripts/mini/train.sh RUN
# `further.sh` goes on from there. Every stage saves as it goes and is skipped when done, so the same command
# goes on after an interruption.
set -euo pipefail
run=${1:?give a folder for pictures and checkpoints}
here=$(dirname "${BASH_SOURCE[0]}")
python=${PYTHON:-python}
"$python" "$here/pictures.py" --out "$run" --count 60000
"$python" "$here/vision.py" --run "$run" --steps 8000 --batch 64
"$python" "$here/sft.py" --run "$run" --name seeing --ground --steps 500 --batch 16 --muon 0.01 \
  --shares 0 0 0 1 0
"$python" "$here/sft.py" --run "$run" --name answers --start seeing --steps 6000 --stop 3750 \
  --shares 0.5 0.1 0.4 0 0
"$python" "$here/duels.py" --run "$run" --name answers --captions 1440 --answers 1440
"$python" "$here/sft.py" --run "$run" --name judge --start answers --steps 2400 --muon 0.005 --rate 1.2e-3 \
  --shares 0.5 0.32 0.18 0 0 --duels "$run/duels.jsonl"
"$python" "$here/sft.py" --run "$run" --name last --start judge --steps 1300 --muon 0.005 --rate 1e-3 \
  --shares 0.42 0.12 0.04 0 0.42 --duels "$run/duels.jsonl"
"$python" "$here/export.py" --run "$run" --name last --out "$here/../../src/llava_cot/mini"
