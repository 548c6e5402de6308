"""What a build says while it works: one line for each step, at once, also into a pipe."""


def step(text: str) -> None:
    print("onefile: " + text, flush=True)
