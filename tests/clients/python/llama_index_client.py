"""llama-index's OpenAILike: complete, chat, streams, structured prediction, a tool's call."""

from typing import Literal

from common import KEY, MODEL, NOTE, QUESTION, URL, User, check_weather
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

llm = OpenAILike(
    model=MODEL,
    api_base=f"{URL}/v1",
    api_key=KEY,
    is_chat_model=True,
    is_function_calling_model=True,
    context_window=2048,
    max_tokens=64,
    max_retries=0,
    temperature=0,
)
said = llm.complete(QUESTION)
assert "Paris" in said.text, said
messages = [ChatMessage(role="user", content=QUESTION)]
assert "Paris" in llm.chat(messages).message.content
assert len([part.delta for part in llm.stream_chat(messages) if part.delta]) > 3
assert len([part.delta for part in llm.stream_complete(QUESTION) if part.delta]) > 3

user = llm.as_structured_llm(User).complete(NOTE).raw
assert isinstance(user, User), user


def get_weather(city: str, unit: Literal["celsius", "fahrenheit"]) -> str:
    """The weather of a city."""
    return f"-3 degrees {unit} in {city}, snow"


weather = FunctionTool.from_defaults(get_weather)
asked = llm.chat_with_tools([weather], "What is the weather in Oslo?", tool_required=True)
[call, *_] = llm.get_tool_calls_from_response(asked)
assert call.tool_name == "get_weather", call
check_weather(call.tool_kwargs)
done = llm.predict_and_call([weather], "What is the weather in Oslo?", tool_required=True)
assert "snow" in str(done), done

text = OpenAILike(
    model=MODEL, api_base=f"{URL}/v1", api_key=KEY, max_tokens=16, max_retries=0, temperature=0
)
assert text.complete("One, two, three,").text
