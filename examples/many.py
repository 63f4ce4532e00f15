"""Many questions at once: calls that are gathered share the model's batches.

python examples/many.py
"""

import asyncio
from pathlib import Path

from llava_cot import ask, open_model

HERE = Path(__file__).parent
QUESTIONS = [
    ("scene.png", "How many cylinders are there?"),
    ("scene.png", "Are there more rubber objects than metal objects?"),
    ("spheres.png", "What color is the large metal sphere?"),
    ("spheres.png", "Subtract all purple rubber objects. How many objects are left?"),
]


async def main() -> None:
    model = open_model("mini")
    traces = await asyncio.gather(
        *(ask(model, HERE / name, question, n=4, judge="likelihood") for name, question in QUESTIONS)
    )
    for (name, question), trace in zip(QUESTIONS, traces, strict=True):
        print(f"{name:12} {question:65} {trace.answer}")


if __name__ == "__main__":
    asyncio.run(main())
