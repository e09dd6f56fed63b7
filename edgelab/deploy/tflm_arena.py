"""Run by `arena` in a process of its own, for a file may crash it: what TensorFlow Lite Micro says of its arena."""

import sys


def main(path: str, arena: int) -> None:
    """Load a file, run it once, and have the interpreter write to stderr what it has allocated."""
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_file(path, arena_size=arena)
    interpreter.invoke()
    interpreter.print_allocations()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
