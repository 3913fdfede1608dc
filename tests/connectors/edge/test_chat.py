from tests.connectors.edge.running import RunningEdge
import openai

def test_echo(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "hello| world"}])
    print(answer)
    assert answer.choices[0].message.content == "hello world"
    s = client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "hello| world"}], stream=True)
    for c in s: print(c)
