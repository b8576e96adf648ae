"""Where the scripts of this folder find the server, and the few things that they all ask about.

Each script shows one client as its own front page does, against a server of lembas, and fails where
an answer is not what such a program needs. Calls are forced (`tool_choice`), so that 135M parameters
suffice.
"""

import os

from pydantic import BaseModel, Field

URL = os.environ["LEMBAS_URL"]
"""Without a slash at its end: OpenAI's clients add /v1, Anthropic's do not."""
KEY = os.environ["LEMBAS_KEY"]
MODEL = os.environ["LEMBAS_MODEL"]

QUESTION = "What is the capital of France? Answer in one sentence."
NOTE = "Extract the user: John Doe is 30 years old."


class User(BaseModel):
    """A person."""

    name: str = Field(max_length=30)
    age: int = Field(ge=0, le=150)


WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
"""What the tool get_weather takes, as JSON Schema."""


def check_weather(arguments: dict) -> None:
    assert set(arguments) == {"city", "unit"}, arguments
    assert isinstance(arguments["city"], str), arguments
    assert arguments["unit"] in ("celsius", "fahrenheit"), arguments
