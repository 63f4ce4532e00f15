"""What a folder of rollouts has, and its data card, `README.md`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

from llava_cot.data.annotation.output import card_table, hub_header
from llava_cot.data.rollouts.rollout_file import ROLLOUT_FILE, QuestionRollouts

# Sums over a store. Prefilled are the tokens that prefills ran; `alone` are those of the same labels if each
# completion were sampled for one stage of one answer, without a cache.
COSTS = (
    "calls", "prompt_tokens", "completion_tokens", "prefilled_tokens", "alone_prompt_tokens",
    "alone_completion_tokens",
)  # fmt: skip


@dataclass
class RolloutSummary:
    """What a folder has: `samples` are distinct answers, `drawn` all of them; `right` counts the drawn ones.

    `written` are the distinct answers in the file, which are fewer if it is balanced. `undecided` are drawn
    answers whose words do not tell whether they are right, which are left out; `unbalanced` questions were
    left out since their answers are all right or all wrong.
    """

    questions: int = 0
    mixed: int = 0
    samples: int = 0
    drawn: int = 0
    right: int = 0
    written: int = 0
    undecided: int = 0
    unbalanced: int = 0
    pending: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # records, by reason
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # by stage
    unlabeled: Counter[str] = field(default_factory=Counter)  # stages without a value, by reason
    sources: Counter[tuple[str, str]] = field(default_factory=Counter)  # questions, by source and license
    cost: Counter[str] = field(default_factory=Counter)
    usd: float | None = None

    def add(self, question: QuestionRollouts, source: str, license: str) -> None:
        """Count a question."""
        self.questions += 1
        self.mixed += question.mixed
        self.samples += len(question.samples)
        self.drawn += sum(sample.times for sample in question.samples)
        self.right += sum(sample.times for sample in question.samples if sample.right)
        self.sources[source, license] += 1
        for sample in question.samples:
            for stage, value in (sample.values or {}).items():
                self.values[stage].append(value)
            for _, value in sample.steps or ():
                self.values["step"].append(value)

    @property
    def labels(self) -> int:
        """Values of stages; without any, answers that are right or wrong."""
        return sum(map(len, self.values.values())) or self.samples

    def cost_lines(self) -> list[tuple[str, float, float]]:
        """Tokens a label, by kind: what they were, and what they would be without sharing anything.

        What was prefilled is not known of a server or a cluster.
        """
        labels, cost = self.labels, self.cost
        pairs = [("generated", "completion_tokens", "alone_completion_tokens")]
        if cost["prefilled_tokens"]:
            pairs.append(("prefilled", "prefilled_tokens", "alone_prompt_tokens"))
        return [(kind, cost[spent] / labels, cost[alone] / labels) for kind, spent, alone in pairs if labels]


_FILE = f"""\
`{ROLLOUT_FILE}` has a line for each question: `id`, `images` (paths relative to this folder), `question`,
`options`, `answer`, and the distinct `samples`: `text`, whether it is `right`, how many `times` it was
sampled, its `logprob`, and the `values` of its stages if there are any: the share of right answers among
completions of the text up to that stage's end.
"""


def rollout_card(summary: RolloutSummary, settings: Mapping[str, str], ended: str | None) -> str:
    """The text of `README.md`; `ended` says why questions are still pending, if some are."""
    share = f"{summary.right / summary.drawn:.1%}" if summary.drawn else "-"
    counts: list[tuple[str, object]] = [
        ("questions", summary.questions),
        ("of these with right and wrong answers", summary.mixed),
        ("answers sampled", summary.drawn),
        ("distinct answers", summary.samples),
        ("share of right answers", share),
    ]
    for what, count in (
        ("answers left out, whose words do not tell", summary.undecided),
        ("questions left out, all right or all wrong (`--balanced`)", summary.unbalanced),
        ("distinct answers left out (`--balanced`)", summary.samples - summary.written),
        ("questions still pending", summary.pending),
    ):
        counts += [(what, count)] if count else []
    values = [(stage, len(them), f"{fmean(them):.3f}") for stage, them in summary.values.items()]
    cost = [(kind, f"{spent:,.0f}", f"{alone:,.0f}") for kind, spent, alone in summary.cost_lines()]
    sources = [
        (a or "not named", b or "not stated", number) for (a, b), number in sorted(summary.sources.items())
    ]
    parts = [hub_header(summary.questions, summary.sources, ROLLOUT_FILE), "# Rollouts\n"]
    if summary.pending:
        why = f" ({ended})" if ended else ""
        parts.append(
            f"**Not complete:** {summary.pending:,} of the questions are still pending{why}. "
            "Run the same command to resume.\n"
        )
    parts += [
        "Sampled answers in stages, labeled by their outcome, made by `llava-cot data rollouts`.\n",
        card_table("", ("", ""), counts),
        card_table("Values", ("stage", "labels", "mean"), values),
        card_table("Stages without a value", ("", ""), list(summary.unlabeled.items())),
        card_table("Records left out", ("", ""), list(summary.left_out.items())),
        card_table("Tokens a label", ("", "spent", "without sharing"), cost),
        card_table("Made by", ("", ""), list(settings.items())),
        card_table("Sources", ("source", "license of its authors", "questions"), sources, names=2),
        _FILE,
    ]
    return "\n".join(part for part in parts if part)
