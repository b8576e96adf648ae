"""pydantic-ai over responses: an answer, a stream, a tool before a structure, kept messages."""

import asyncio
from typing import Literal

from common import KEY, MODEL, NOTE, QUESTION, URL, User
from pydantic import BaseModel
from pydantic_ai import Agent, ModelSettings, NativeOutput, RunContext
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY)
model = OpenAIResponsesModel(MODEL, provider=provider)
settings = {"temperature": 0, "max_tokens": 64, "parallel_tool_calls": False}

agent = Agent(model, model_settings=settings)
said = agent.run_sync(QUESTION)
assert "Paris" in said.output, said


async def stream() -> list[str]:
    async with agent.run_stream(QUESTION) as result:
        return [text async for text in result.stream_text(delta=True, debounce_by=None)]


parts = asyncio.run(stream())
assert len(parts) > 1 and "".join(parts) == said.output, parts

person = Agent(model, output_type=User, model_settings=settings).run_sync(NOTE)
assert isinstance(person.output, User), person
native = Agent(model, output_type=NativeOutput(User), model_settings=settings).run_sync(NOTE)
assert isinstance(native.output, User), native


class Advice(BaseModel):
    take: Literal["umbrella", "coat", "sunglasses"]


def settings_now(context: RunContext[list[str]]) -> ModelSettings:
    """The tool at first, then the output."""
    return {**settings, "tool_choice": "none" if context.deps else ["get_weather"]}


helper = Agent(model, deps_type=list[str], output_type=Advice, model_settings=settings_now)


@helper.tool
def get_weather(
    context: RunContext[list[str]], city: str, unit: Literal["celsius", "fahrenheit"]
) -> str:
    """The weather of a city."""
    context.deps.append(city)
    return f"-3 degrees {unit} in {city}, snow"


called: list[str] = []
advised = helper.run_sync("What shall I take along in Oslo?", deps=called)
assert called and isinstance(advised.output, Advice), (called, advised)

kept = {**settings, "openai_previous_response_id": "auto"}
again = agent.run_sync("And of Italy?", message_history=said.all_messages(), model_settings=kept)
assert again.output and again.usage.input_tokens > said.usage.input_tokens, again
