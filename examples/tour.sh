#!/usr/bin/env bash
# A tour in a minute on a CPU: fresh scenes, one question by two methods, and the search as a page.
# Takes a folder to write to (out/tour, if none is given) and finds llava-cot on the PATH or in .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-out/tour}
command -v llava-cot >/dev/null || PATH="$PWD/.venv/bin:$PATH"
mkdir -p "$out"

echo "Eight scenes that nobody has seen, with questions and answers:"
llava-cot scenes "$out/scenes" --count 8 --seed 11

question="Remove all blue rubber objects. Remove all rubber cubes. Add 2 small cylinders. How many objects are left now?"
echo; echo "$question"
echo; echo "In one pass, without a search:"
llava-cot ask examples/scene.png "$question" --method single

echo; echo "By stage-level beam search, four candidates a stage:"
llava-cot ask examples/scene.png "$question" -n 4 --judge likelihood --show-search --trace "$out/trace.json"

echo; echo "The same search as a page to open in a browser:"
llava-cot trace "$out/trace.json" --html "$out/trace.html"
