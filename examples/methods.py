"""One question, every method: what each answers and what it costs.

python examples/methods.py
"""

from pathlib import Path

from llava_cot import ask_sync, open_model
from llava_cot.search.methods import METHODS

PICTURE = Path(__file__).parent / "scene.png"
QUESTION = (
    "Remove all blue rubber objects. Remove all rubber cubes. Add 2 small cylinders. "
    "How many objects are left now?"
)


def main() -> None:
    model = open_model("mini")
    print(f"{'method':20}{'answer':>8}{'calls':>7}{'tokens':>8}{'seconds':>9}")
    for method, kind in METHODS.items():
        if kind.requires:  # another model, or a file
            continue
        n = 1 if kind.single else 4  # the most of it, where a method stops early
        trace = ask_sync(model, PICTURE, QUESTION, method=method, n=n)
        usage = trace.usage
        row = f"{method:20}{trace.answer or '-':>8}{usage.model_calls:7}{usage.completion_tokens:8}"
        print(f"{row}{usage.seconds:9.2f}")


if __name__ == "__main__":
    main()
