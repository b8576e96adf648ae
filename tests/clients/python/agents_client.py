"""openai-agents over chat completions: a run, a streamed run, a tool's whole loop, a structure."""

import asyncio
from dataclasses import replace
from typing import Literal

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, function_tool
from agents import set_tracing_disabled
from common import KEY, MODEL, NOTE, QUESTION, URL, User
from openai import AsyncOpenAI

set_tracing_disabled(True)
client = AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
model = OpenAIChatCompletionsModel(model=MODEL, openai_client=client)
settings = ModelSettings(temperature=0, max_tokens=100)
called: list[str] = []


@function_tool
def get_weather(city: str, unit: Literal["celsius", "fahrenheit"]) -> str:
    """The weather of a city."""
    called.append(city)
    return f"-3 degrees {unit} in {city}, snow"


async def main() -> None:
    agent = Agent(name="Assistant", model=model, model_settings=settings)
    said = await Runner.run(agent, QUESTION)
    assert "Paris" in said.final_output, said

    streamed = Runner.run_streamed(agent, QUESTION)
    kinds = {event.type async for event in streamed.stream_events()}
    assert "raw_response_event" in kinds and streamed.final_output, kinds

    person = Agent(name="Reader", model=model, model_settings=settings, output_type=User)
    assert isinstance((await Runner.run(person, NOTE)).final_output, User)

    # once the tool was called, the agent itself goes back to tool_choice auto
    forced = replace(settings, tool_choice="get_weather", parallel_tool_calls=False)
    helper = Agent(name="Weather", model=model, model_settings=forced, tools=[get_weather])
    answer = await Runner.run(helper, "What is the weather in Oslo?")
    assert called and answer.final_output, (called, answer)


asyncio.run(main())
