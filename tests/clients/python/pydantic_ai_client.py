"""pydantic-ai: an agent that answers, streams, gives a structure, and calls a tool on the way."""

import asyncio
from typing import Literal

from common import KEY, MODEL, NOTE, QUESTION, URL, User
from pydantic import BaseModel
from pydantic_ai import Agent, ModelSettings, RunContext
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY)
model = OpenAIChatModel(MODEL, provider=provider)
settings = {"temperature": 0, "max_tokens": 100, "parallel_tool_calls": False}

agent = Agent(model, model_settings=settings)
said = agent.run_sync(QUESTION)
assert "Paris" in said.output, said


async def stream() -> list[str]:
    async with agent.run_stream(QUESTION) as result:
        return [text async for text in result.stream_text(delta=True, debounce_by=None)]


assert len(asyncio.run(stream())) > 1

person = Agent(model, output_type=User, model_settings=settings).run_sync(NOTE)
assert isinstance(person.output, User), person

called: list[str] = []


def settings_now(_: RunContext) -> ModelSettings:
    """The tool at first, then the output."""
    return {**settings, "tool_choice": "none" if called else ["get_weather"]}


class Advice(BaseModel):
    take: Literal["umbrella", "coat", "sunglasses"]


helper = Agent(model, output_type=Advice, model_settings=settings_now)


@helper.tool_plain
def get_weather(city: str, unit: Literal["celsius", "fahrenheit"]) -> str:
    """The weather of a city."""
    called.append(city)
    return f"-3 degrees {unit} in {city}, snow"


advised = helper.run_sync("What shall I take along in Oslo?")
assert called and isinstance(advised.output, Advice), (called, advised)
