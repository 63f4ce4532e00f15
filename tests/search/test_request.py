from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import SEARCHES, resources_for

from llava_cot.errors import RequestError
from llava_cot.search.judges import JUDGES
from llava_cot.search.methods import METHODS
from llava_cot.search.request import Spec, StagingOptions, make_request, parse_spec

searches = st.builds(
    lambda search, n, budget: Spec(
        search[0], n, search[1], budget=budget if METHODS[search[0]].budgeted else None
    ),
    st.sampled_from([search for search in SEARCHES if not METHODS[search[0]].single]),
    st.integers(1, 999_999_999),
    st.none() | st.integers(1, 999_999_999),
)
ones = [Spec(name) for name, kind in METHODS.items() if kind.single]
specs = st.one_of(st.sampled_from([*ones, Spec("single", temperature=0.0)]), searches)


@given(specs)
def test_a_spec_is_read_as_it_is_written(spec: Spec) -> None:
    assert parse_spec(spec.name) == spec


@given(
    st.text(st.sampled_from("-@1234567890single greedybeamstofmajorityselflogits"), max_size=30) | st.text()
)
def test_whatever_is_read_can_be_asked_and_has_one_name(text: str) -> None:
    try:
        spec = parse_spec(text)
        request = spec.request(resources=resources_for(spec.judge if spec.judge in JUDGES else None))
    except ValueError as error:
        assert str(error) and "\n" not in str(error)
        return
    assert (request.method, request.n, request.judge, request.budget) == (
        spec.method, spec.n, spec.judge, spec.budget,
    )  # fmt: skip
    assert parse_spec(spec.name) == spec


@pytest.mark.parametrize(
    ("text", "method", "n", "judge", "name"),
    [
        ("single", "single", 1, None, "single"),
        ("single-1", "single", 1, None, "single"),
        ("cot-few-shot", "cot-few-shot", 1, None, "cot-few-shot"),
        ("msg", "msg", 1, None, "msg"),
        ("stage-beam", "stage-beam", 2, "self", "stage-beam-2"),
        ("stage-beam-4@self", "stage-beam", 4, "self", "stage-beam-4"),
        ("best-of-10@logits", "best-of-n", 10, "logits", "best-of-10@logits"),
        ("best-of-n-10@logits", "best-of-n", 10, "logits", "best-of-10@logits"),
        ("best-of-n", "best-of-n", 2, "self", "best-of-2"),
        ("majority-10", "majority", 10, None, "majority-10"),
        ("weighted-best-of-8", "weighted-best-of-n", 8, "logits", "weighted-best-of-8"),
        ("weighted-best-of-n-8@reward", "weighted-best-of-n", 8, "reward", "weighted-best-of-8@reward"),
        ("weighted-majority-8@rules", "weighted-best-of-n", 8, "rules", "weighted-best-of-8@rules"),
        ("weighted-majority", "weighted-best-of-n", 2, "logits", "weighted-best-of-2"),
        ("sentence-beam-4", "sentence-beam", 4, "self", "sentence-beam-4"),
        ("adaptive-majority-9", "adaptive-majority", 9, None, "adaptive-majority-9"),
        ("adaptive-best-of-8", "adaptive-best-of-n", 8, "logits", "adaptive-best-of-8"),
        ("adaptive-best-of-8@verifier", "adaptive-best-of-n", 8, "verifier", "adaptive-best-of-8@verifier"),
        ("adaptive-stage-beam", "adaptive-stage-beam", 2, "self", "adaptive-stage-beam-2"),
        ("stage-beam-8-within-600@logits", "stage-beam", 8, "logits", "stage-beam-8-within-600@logits"),
    ],
)
def test_words(text: str, method: str, n: int, judge: str | None, name: str) -> None:
    spec = parse_spec(text)
    assert (spec.method, spec.n, spec.judge, spec.temperature, spec.name) == (method, n, judge, None, name)


def test_a_spec_may_name_who_puts_the_stages() -> None:
    for text in (
        "single+prompted",
        "best-of-4@logits+trained",
        "greedy+prompted",
        "majority-8-within-90+auto",
    ):
        spec = parse_spec(text)
        assert (spec.name, spec.request(staging=StagingOptions(stages="trained")).stages) == (
            text,
            text.partition("+")[2],
        )
    assert parse_spec("single").request(staging=StagingOptions(stages="trained")).stages == "trained"


def test_greedy_is_single_at_temperature_0() -> None:
    assert parse_spec("greedy") == Spec("single", 1, None, 0.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there is no method ''"),
        ("beam", "there is no method 'beam'"),
        ("stage-beam-0", "there is no method 'stage-beam-0'"),
        ("stage-beam-4@coin", "there is no judge 'coin'; choose one of self"),
        ("stage-beam-4@", "there is no judge ''"),
        ("single+both", "there is no method 'single.both'"),
        ("weighted-best-of-4@self", "weighted-best-of-n needs scores, and self gives none"),
        ("majority-4@self", "majority uses no judge"),
        ("greedy@self", "single uses no judge"),
        ("single-2", "takes one sample, not 2"),
        ("adaptive-best-of-4@self", "needs scores, and self gives none"),
        ("adaptive-best-of-4@likelihood", "needs probabilities, and the scores of likelihood are none"),
        ("adaptive-majority-4-within-90", "adaptive-majority keeps to no budget; drop it"),
    ],
)
def test_what_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told.replace("(", r"\(")):
        parse_spec(text).request()


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"method": ""}, "there is no method ''"),
        (
            {"method": "stage-beem"},
            "there is no method 'stage-beem'; did you mean stage-beam? There are ",
        ),
        ({"method": "best-of-4"}, "best-of-4 names a method and n; give best-of-n and 4 apart"),
        ({"n": 10**20}, "n is 100000000000000000000; give at most 100,000"),
        ({"judge": "logit"}, "there is no judge 'logit'; did you mean logits?"),
    ],
)
def test_a_slip_of_the_keyboard_is_explained(choices: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError) as caught:
        make_request(**choices)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    ("choices", "field"),
    [
        ({"n": 2.0}, "n"),
        ({"n": True}, "n"),
        ({"n": "2"}, "n"),
        ({"method": ["single"]}, "method"),
        ({"judge": 3}, "judge"),
        ({"method": "majority", "budget": 1.5}, "budget"),
        ({"sampling": {"seed": 1}}, "sampling"),
        ({"fmt": "think,answer"}, "fmt"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_field(choices: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError, match=rf"^{field} is ") as caught:
        make_request(**choices)
    assert caught.value.field == field


def test_an_alias_is_the_method_everywhere() -> None:
    assert make_request("weighted-majority").method == "weighted-best-of-n"
    assert parse_spec("weighted-majority-4").request().method == "weighted-best-of-n"
