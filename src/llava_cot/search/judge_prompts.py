"""The prompts of judges, and how their replies are read.

What two duels of one tournament share comes first (criterion, question, earlier stages) and the two responses
last, so that duels share a prefix. The default wording is in `judge_prompts.yaml`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, field_validator

from llava_cot.core.files import make_recipe, read_yaml
from llava_cot.core.stages import StageFormat
from llava_cot.errors import DataError

# The paper's stages that are not shown the summary.
_WITHOUT_SUMMARY = ("caption", "reasoning", "conclusion")


class JudgePrompts(BaseModel):
    """The wording of judges that ask a model; `judge_prompts.yaml` describes each field.

    In all prompts, the images go before the text, and `hint` holds the texts of the earlier stages, in order,
    by name (for the stage "sentence": the answer so far, under "sentence").
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    criteria: dict[str, str]
    other_criterion: str
    question: str
    hints: dict[str, str]
    other_hint: tuple[str, str]
    response_1: str
    response_2: str
    reply_form: str
    choice: str
    choices: tuple[str, str]
    check_reasoning: str
    check_reasoning_without_caption: str
    checks: dict[str, str]
    other_check: str
    response: str
    check_form: str
    verdict: str
    verdicts: tuple[str, str]
    step_task: str
    step_question: str
    first_step: str
    signs: tuple[str, str]
    step_end: str
    rate: str
    rate_question: str
    rate_response: str
    rate_form: str
    score: str
    score_range: tuple[float, float]

    @field_validator("choice", "verdict", "score")
    @classmethod
    def _not_blank(cls, lead: str) -> str:
        if not lead.strip():
            raise ValueError("give some text, after which a reply names one of two options")
        return lead

    @field_validator("choices", "verdicts", "signs", mode="before")
    @classmethod
    def _no_booleans(cls, options: Any) -> Any:
        if isinstance(options, list) and any(isinstance(option, bool) for option in options):
            raise ValueError("YAML reads yes, no, true, false, on and off as Booleans; put them in quotes")
        return options

    @field_validator("score_range")
    @classmethod
    def _rising(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if not ends[0] < ends[1]:
            raise ValueError("give the lowest and the highest rating, such as [0, 100]")
        return ends

    @field_validator("choices", "verdicts", "signs")
    @classmethod
    def _tell_apart(cls, options: tuple[str, str]) -> tuple[str, str]:
        first, second = (option.strip().lower() for option in options)
        if not first or not second or first == second:
            raise ValueError("give two different texts, so that a reply can name one of them")
        return options

    def duel(self, stage: str, question_text: str, hint: Mapping[str, str | None], a: str, b: str) -> str:
        """The text of a duel between `a` (response 1) and `b` (response 2).

        The paper's stages are not shown the summary; any other stage is shown all earlier ones.
        """
        criterion = self.criteria.get(stage) or self.other_criterion + stage
        parts = [criterion, *self._context(stage, question_text, hint)]
        parts += [self.response_1, a.strip(), self.response_2, b.strip(), self.reply_form]
        return "".join(parts)

    def reasoning_check(self, question_text: str, caption: str | None, reasoning: str) -> str:
        """The text that asks whether a reasoning is correct; the paper asks it without the image."""
        if caption is None or not caption.strip():
            parts = [self.check_reasoning_without_caption, self.question, question_text.strip()]
        else:
            parts = [self.check_reasoning, self.question, question_text.strip()]
            parts += [self._hint("caption"), caption.strip()]
        return "".join([*parts, self._hint("reasoning"), reasoning.strip(), self.check_form])

    def part_check(self, stage: str, question_text: str, hint: Mapping[str, str | None], text: str) -> str:
        """The same for any other stage, a sentence or a whole answer, which the paper does not check."""
        check = self.checks.get(stage) or self.other_check + stage
        parts = [check, *self._context(stage, question_text, hint)]
        return "".join([*parts, self.response, text.strip(), self.check_form])

    def parse_choice(self, reply: str) -> Literal[1, 2] | None:
        """1 or 2, the response that the reply chooses last; None if it is cut, chooses neither or both."""
        if (self.choice, self.choices) == (default_prompts().choice, default_prompts().choices):
            return parse_choice(reply)
        found = _parse_custom(reply, self.choice, self.choices)
        return None if found is None else _number(str(found + 1))

    def parse_check(self, reply: str) -> bool | None:
        """Whether the reply's last verdict is the first of `verdicts`; None if it gives none, or both."""
        if (self.verdict, self.verdicts) == (default_prompts().verdict, default_prompts().verdicts):
            return parse_check(reply)
        found = _parse_custom(reply, self.verdict, self.verdicts)
        return None if found is None else found == 0

    @property
    def digest(self) -> str:
        """A hash of the wording."""
        return sha256(json.dumps(self.model_dump(mode="json")).encode()).hexdigest()[:16]

    def constant_pieces(self) -> tuple[str, ...]:
        """The constant pieces of duels and reasoning checks, as they stand in prompts.

        A small model may give each a token of its own.
        """
        return (
            *self.criteria.values(),
            self.other_criterion,
            self.question,
            *self.hints.values(),
            *self.other_hint,
            self.response_1,
            self.response_2,
            self.reply_form,
            self.check_reasoning,
            self.check_reasoning_without_caption,
            self.check_form,
        )

    def _context(self, stage: str, question_text: str, hint: Mapping[str, str | None]) -> list[str]:
        """The question and the earlier stages."""
        parts = [self.question, question_text.strip()]
        for name, text in hint.items():
            if text is None or not text.strip() or (name == "summary" and stage in _WITHOUT_SUMMARY):
                continue
            parts += [self._hint(name), text.strip()]
        return parts

    def _hint(self, name: str) -> str:
        return self.hints.get(name) or name.join(self.other_hint)


@cache
def default_prompts() -> JudgePrompts:
    """The present wording of the package."""
    return JudgePrompts(**_default_fields())


def prompts_for(fmt: StageFormat) -> JudgePrompts:
    """The present wording, with the criteria that a format brings for its stages."""
    default = default_prompts()
    own = {stage.name: stage.criterion for stage in fmt.stages if stage.criterion}
    return default.model_copy(update={"criteria": default.criteria | own}) if own else default


def load_judge_prompts(path: str | Path) -> JudgePrompts:
    """Read a file of judge prompts (YAML); fields that it leaves out keep the default wording.

    Raises:
        DataError: The file cannot be read, or has a field that does not exist or is no text.
    """
    what = "file of judge prompts"
    given = read_yaml(path, what)
    if not isinstance(given, dict) or not given:
        raise DataError(
            f"the {what} {path} has no fields; write those that differ from the default, such as criteria"
        )
    fields = _default_fields()
    for name, value in given.items():
        default = fields.get(name)
        both = isinstance(default, dict) and isinstance(value, dict)
        fields[name] = default | value if both else value
    return make_recipe(fields, JudgePrompts, path, what)


def _default_fields() -> dict[str, Any]:
    text = files("llava_cot.search").joinpath("judge_prompts.yaml").read_text(encoding="utf-8")
    fields: dict[str, Any] = yaml.safe_load(text)
    return fields


def choice_reply(choice: int, reason: str = "") -> str:
    """A reply that chooses response 1 or 2 in the default form; without a reason, the choice alone."""
    choice_text = f"{default_prompts().choice} {choice}."
    return f"Since {reason}, {choice_text}" if reason else choice_text


def check_reply(correct: bool, reason: str = "") -> str:
    """A reply that gives a verdict in the default form, after its reason if there is one."""
    return f"{reason} Verdict: {'correct' if correct else 'incorrect'}.".lstrip()


_GAP = r"[\s*_\[\](){}:#\"'`<>-]"
_CHOICE = re.compile(
    rf"\b(?:choose|chose|pick|select|prefer){_GAP}{{1,8}}(?:the{_GAP}{{1,4}})?"
    rf"response{_GAP}{{0,8}}([12])(?![0-9]|\.[0-9])",
    re.IGNORECASE,
)
_BARE_CHOICE = re.compile(
    rf"{_GAP}{{0,8}}(?:(?:my|the|final|better|best|choice|answer|verdict|winner|is){_GAP}{{1,8}}){{0,5}}"
    rf"(?:response)?{_GAP}{{0,8}}([12]){_GAP}{{0,8}}\.?{_GAP}{{0,8}}",
    re.IGNORECASE,
)
_CHECK = re.compile(
    rf"\bverdict{_GAP}{{0,8}}(?:is{_GAP}{{1,4}})?(in|not{_GAP}{{1,4}})?correct\b(?!{_GAP}{{0,4}}/)",
    re.IGNORECASE,
)
_BARE_CHECK = re.compile(rf"{_GAP}{{0,8}}(in|not )?correct{_GAP}{{0,8}}\.?{_GAP}{{0,8}}", re.IGNORECASE)
_NEGATED = re.compile(
    r"(?:\bnot|n't|n’t|\bnever|\bcannot|\bthan|\binstead of)\s{1,4}(?:to\s{1,4})?$", re.IGNORECASE
)
_JOINED = rf"{_GAP}{{0,4}}(?:/|\bor\b|\band\b){_GAP}{{0,4}}"
_OTHER = re.compile(rf"{_JOINED}(?:response{_GAP}{{0,4}})?[12]\b", re.IGNORECASE)
_ECHO = re.compile(r"[\s\".'*]{0,8}or[\s\"'*]{0,8}(?:since\b.{0,12})?(?:I\s)?", re.IGNORECASE)


def parse_choice(reply: str) -> Literal[1, 2] | None:
    """1 or 2, the response that the reply chooses last; None if it is cut, chooses neither or both."""
    last, undecided = _last(reply, _CHOICE, _OTHER, negatable=True)
    if last is not None:
        return None if undecided else _number(last[1])
    bare = _BARE_CHOICE.fullmatch(_last_line(reply))
    return _number(bare[1]) if bare else None


def parse_check(reply: str) -> bool | None:
    """Whether the reply's last verdict is "correct"; None if it gives none, or both."""
    last, undecided = _last(reply, _CHECK)
    if last is not None:
        return None if undecided else last[1] is None
    bare = _BARE_CHECK.fullmatch(_last_line(reply))
    return bare[1] is None if bare else None


def _parse_custom(reply: str, lead: str, options: tuple[str, str]) -> int | None:
    """The index of the option that follows the last `lead` in a reply of a custom form."""
    last, undecided = _last(reply, _custom(lead.strip(), options), negatable=True)
    if last is None or last["option"] is None or undecided:
        return None
    found = [i for i, one in enumerate(options) if re.fullmatch(re.escape(one.strip()), last["option"], re.I)]
    return found[0] if len(found) == 1 else None


@cache
def _custom(lead: str, options: tuple[str, str]) -> re.Pattern[str]:
    """A lead, and the option after it unless the other one is joined to it; the longer option goes first."""
    start, lead = r"(?<!\w)" if re.match(r"\w", lead) else "", re.escape(lead)
    first, second = sorted((re.escape(option.strip()) for option in options), key=len, reverse=True)
    end = r"(?!\w|\.[0-9])"
    either = f"{first}{end}(?!{_JOINED}{second}{end})|{second}{end}(?!{_JOINED}{first}{end})"
    return re.compile(rf"{start}{lead}(?:{_GAP}{{0,8}}?(?P<option>{either}))?", re.IGNORECASE)


def _last(
    reply: str, pattern: re.Pattern[str], other: re.Pattern[str] | None = None, *, negatable: bool = False
) -> tuple[re.Match[str] | None, bool]:
    """The last verdict that is not negated, and whether it names both, as the prompt itself does."""
    last: re.Match[str] | None = None
    undecided = False
    for match in pattern.finditer(reply):
        if negatable and _NEGATED.search(reply, max(0, match.start() - 24), match.start()):
            continue
        echo = last and match.start() - last.end() < 40 and _ECHO.fullmatch(reply, last.end(), match.start())
        undecided = bool(echo or (other and other.match(reply, match.end())))
        last = match
    return last, undecided


def _number(digit: str) -> Literal[1, 2]:
    return 1 if digit == "1" else 2


def _last_line(reply: str) -> str:
    lines = reply.strip().splitlines()
    return lines[-1].strip() if lines else ""
