"""openai-agents' default model, over responses: a run, a streamed run, a tool's loop, a structure."""

import asyncio
import os
from dataclasses import replace
from typing import Literal

from agents import Agent, ModelSettings, Runner, function_tool
from agents import set_default_openai_client, set_tracing_disabled
from common import KEY, MODEL, NOTE, QUESTION, URL, User
from openai import AsyncOpenAI

set_tracing_disabled(True)
set_default_openai_client(AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0))
settings = ModelSettings(temperature=0, max_tokens=64)
WEATHER_QUESTION = "What is the weather in Oslo?"


async def main() -> None:
    called: list[str] = []

    @function_tool
    def get_weather(city: str, unit: Literal["celsius", "fahrenheit"]) -> str:
        """The weather of a city."""
        called.append(city)
        return f"-3 degrees {unit} in {city}, snow"

    os.environ["OPENAI_DEFAULT_MODEL"] = MODEL
    agent = Agent(name="Assistant", instructions="Be brief.", model_settings=settings)
    said = await Runner.run(agent, QUESTION)
    assert "Paris" in said.final_output and said.last_response_id, said

    streamed = Runner.run_streamed(agent, QUESTION)
    raw = [
        event.data.type
        async for event in streamed.stream_events()
        if event.type == "raw_response_event"
    ]
    assert raw[-1] == "response.completed" and "response.output_text.delta" in raw, raw
    assert streamed.final_output == said.final_output, streamed

    person = Agent(name="Reader", model=MODEL, model_settings=settings, output_type=User)
    assert isinstance((await Runner.run(person, NOTE)).final_output, User)

    # once the tool was called, the agent itself goes back to tool_choice auto
    forced = replace(settings, tool_choice="required", parallel_tool_calls=False)
    helper = Agent(name="Weather", model=MODEL, model_settings=forced, tools=[get_weather])
    answer = await Runner.run(helper, WEATHER_QUESTION)
    assert len(called) > 0 and answer.final_output, (called, answer)

    named = replace(helper, model_settings=replace(forced, tool_choice="get_weather"))
    looped = Runner.run_streamed(named, WEATHER_QUESTION)
    items = [
        event.item.type
        async for event in looped.stream_events()
        if event.type == "run_item_stream_event"
    ]
    assert items[:2] == ["tool_call_item", "tool_call_output_item"], items
    assert looped.final_output, looped

    # the server keeps the conversation: only what is new is sent
    first = await Runner.run(agent, "My name is Mira. Say hello.")
    second = await Runner.run(
        agent, "What is my name?", previous_response_id=first.last_response_id
    )
    [asked] = second.raw_responses
    assert asked.usage.input_tokens > first.raw_responses[0].usage.total_tokens, second


asyncio.run(main())
