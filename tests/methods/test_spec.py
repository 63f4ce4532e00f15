import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import UNSCORED

from llava_cot.asking import settings
from llava_cot.judges import JUDGES
from llava_cot.methods import METHODS
from llava_cot.methods.spec import Spec, parse_spec

searches = st.builds(
    lambda method, n, judge: Spec(method, n, judge if METHODS[method].judge is not None else None),
    st.sampled_from(sorted(set(UNSCORED) - {"single"})),
    st.integers(1, 999_999_999),
    st.sampled_from(sorted(JUDGES)),
)
specs = st.one_of(st.sampled_from([Spec("single"), Spec("single", temperature=0.0)]), searches)


@given(specs)
def test_a_spec_is_read_as_it_is_written(spec: Spec) -> None:
    assert parse_spec(spec.name) == spec


@given(
    st.text(st.sampled_from("-@1234567890single greedybeamstofmajorityselflogits"), max_size=30) | st.text()
)
def test_whatever_is_read_can_be_asked_and_has_one_name(text: str) -> None:
    try:
        spec = parse_spec(text)
    except ValueError as error:
        assert str(error) and "\n" not in str(error)
        return
    settings(spec.method, spec.n, spec.judge, 0.6, 0.9, 1, 0)
    assert parse_spec(spec.name) == spec


@pytest.mark.parametrize(
    ("text", "method", "n", "judge", "name"),
    [
        ("single", "single", 1, None, "single"),
        ("single-1", "single", 1, None, "single"),
        ("stage-beam", "stage-beam", 2, "self", "stage-beam-2"),
        ("stage-beam-4@self", "stage-beam", 4, "self", "stage-beam-4"),
        ("best-of-10@logits", "best-of-n", 10, "logits", "best-of-10@logits"),
        ("best-of-n-10@logits", "best-of-n", 10, "logits", "best-of-10@logits"),
        ("best-of-n", "best-of-n", 2, "self", "best-of-2"),
        ("majority-10", "majority", 10, None, "majority-10"),
        ("sentence-beam-4", "sentence-beam", 4, "self", "sentence-beam-4"),
    ],
)
def test_words(text: str, method: str, n: int, judge: str | None, name: str) -> None:
    spec = parse_spec(text)
    assert (spec.method, spec.n, spec.judge, spec.temperature, spec.name) == (method, n, judge, None, name)


def test_greedy_is_single_at_temperature_0() -> None:
    assert parse_spec("greedy") == Spec("single", 1, None, 0.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there is no method ''"),
        ("beam", "there is no method 'beam'"),
        ("stage-beam-0", "there is no method 'stage-beam-0'"),
        ("stage-beam-4@coin", "names the judge 'coin'; choose one of self"),
        ("stage-beam-4@", "names the judge ''"),
        ("majority-4@self", "majority asks none"),
        ("greedy@self", "greedy asks none"),
        ("single-2", "asks for 2 candidates"),
    ],
)
def test_what_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told.replace("(", r"\(")):
        parse_spec(text)
