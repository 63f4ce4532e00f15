"""The configuration file and keys: what is taken, and one sentence for what is not."""

from pathlib import Path

import pytest

from llava_cot.errors import ModelError
from llava_cot.models.endpoint.config import EndpointConfig, Provider, find_providers, key_of, load_config


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "llava-cot").mkdir()
    return tmp_path / "llava-cot" / "endpoints.yaml"


def test_without_a_file_there_are_the_package_s_prices(file: Path) -> None:
    config = load_config()
    assert config.providers == {}
    assert config.prices["gpt-4o-mini"].output == 0.6


def test_the_user_s_servers_and_prices_go_first(file: Path) -> None:
    file.write_text(
        "providers:\n  lab: {url: 'http://lab:8000/v1/', model: big, image_side: 512}\n"
        "prices:\n  gpt-4o-mini: {input: 1, output: 2}\n  big: {input: 0, output: 0}\n"
    )
    config = load_config()
    assert config.prices["gpt-4o-mini"].input == 1
    assert {"gpt-4o", "big"} <= set(config.prices)
    [lab] = find_providers("lab", config)
    assert lab == Provider(url="http://lab:8000/v1", model="big", image_side=512)
    assert find_providers("other", config) == []


def test_several_servers_are_named_in_the_file_or_with_commas(file: Path) -> None:
    file.write_text(
        "providers:\n  lab: {url: ['http://a/v1', 'http://b/v1/'], model: big, in_flight: 8}\n"
        "  other: {url: 'http://c/v1, http://d/v1'}\n"
    )
    config = load_config()

    def urls(spec: str) -> list[str]:
        return [provider.url for provider in find_providers(spec, config)]

    assert urls("lab") == ["http://a/v1", "http://b/v1"]
    assert {p.in_flight for p in find_providers("lab", config)} == {8}
    assert urls("lab, http://e/v1,other,") == [
        "http://a/v1",
        "http://b/v1",
        *(f"http://{x}/v1" for x in "ecd"),
    ]
    assert urls("some,folder") == []
    with pytest.raises(
        ModelError, match="'folder' of lab,folder is neither an address nor the name of a server"
    ):
        find_providers("lab,folder", config)
    file.write_text("providers: {lab: {url: [http://a, 3]}}")
    with pytest.raises(ModelError, match=r"providers\.lab\.url: "):
        load_config()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("providers: [", "is not YAML"),
        ("providers: {lab: {key: sk-secret-1, url: 'http://x'}}", "providers.lab.key: "),
        ("providers: {lab: {model: big}}", "providers.lab.url: Field required"),
        ("providers: {lab: {url: 'http://x', in_flight: 0}}", "providers.lab.in_flight: "),
        ("prices: {big: 3}", "prices.big: "),
        ("[1]", "cannot be used: Input should be "),
    ],
)
def test_a_file_that_cannot_be_used(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(ModelError) as refused:
        load_config()
    assert str(file) in str(refused.value) and words in str(refused.value)
    assert "secret" not in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://", "https://x:port/v1", "http://[::1/v1"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ModelError, match="not well formed"):
        find_providers(url, EndpointConfig())


@pytest.mark.parametrize("url", ["http://me:secret@x/v1", "https://x/v1?key=secret", "https://x/v1#secret"])
def test_an_address_with_a_secret_in_it(url: str) -> None:
    with pytest.raises(ModelError) as refused:
        find_providers(url, EndpointConfig())
    assert "secret" not in str(refused.value)


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, named = Provider(url="http://x"), Provider(url="http://x", key_env="LAB_KEY")
    monkeypatch.delenv("LLAVA_COT_API_KEY", raising=False)
    monkeypatch.delenv("LAB_KEY", raising=False)
    assert key_of(plain) is None
    with pytest.raises(ModelError, match="LAB_KEY is not set"):
        key_of(named)
    monkeypatch.setenv("LAB_KEY", " abc\n")
    assert key_of(named) == "abc"
    for bad in ("a b", "a\nb", "käse"):
        monkeypatch.setenv("LAB_KEY", bad)
        with pytest.raises(ModelError) as refused:
            key_of(named)
        assert bad not in str(refused.value)
