"""Stage formats as people write them: words on the command line, or a YAML file with explanations."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from llava_cot.core.files import make_recipe, read_yaml
from llava_cot.core.stages import LLAVA_COT, Stage, StageFormat, make_format
from llava_cot.errors import DataError


class StageFields(BaseModel):
    """A stage in a file. Without tags it has those of its name: <name> and </name>."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(description="Its name, in lower case.")
    open: str | None = Field(None, description="Its opening tag.")
    close: str | None = Field(None, description="Its closing tag.")
    purpose: str = Field("", description="What belongs in it, for models that are prompted for it.")
    criterion: str = Field("", description="What a judge goes by between two texts of it.")


class FormatFields(BaseModel):
    """A file of stages."""

    model_config = ConfigDict(extra="forbid", strict=True)

    stages: list[StageFields] = Field(min_length=1, description="The stages, in order.")
    final: str = Field("", description="The stage that holds the answer; the last if not given.")
    thinking: bool = Field(
        False,
        description="The two stages are a model's own thinking, in these tags, and its answer after it.",
    )


def read_format(spec: str | None) -> StageFormat:
    """The format that was given: words (`make_format`), the name of a YAML file, or None for the paper's.

    Raises:
        ValueError: The words or the file cannot be read as a format.
    """
    if spec is None:
        return LLAVA_COT
    if not spec.endswith((".yaml", ".yml")):
        return make_format(spec)
    what = "stage format"
    found = make_recipe(read_yaml(spec, what), FormatFields, spec, what)
    stages = tuple(
        Stage(
            one.name,
            f"<{one.name}>" if one.open is None else one.open,
            f"</{one.name}>" if one.close is None else one.close,
            one.purpose.strip(),
            one.criterion.strip(),
        )
        for one in found.stages
    )
    try:
        return StageFormat(stages, found.final, found.thinking)
    except ValueError as error:
        raise DataError(f"the {what} {spec}: {error}") from None
