"""What Typer says of itself, in the learner's language: headings, `--help`, and one sentence for a command mistyped."""

import sys
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from edgelab.errors import EdgelabError
from edgelab.i18n import _, language, translator

_UsageError: Any = typer.BadParameter.__mro__[1]  # click's, or that of the copy which newer typers carry


class _InWords:
    """A command that speaks the learner's language; what it is mixed into is Typer's."""

    def get_usage(self, ctx: Any) -> str:
        usage = super().get_usage(ctx)  # type: ignore[misc]
        words = {"Usage:": _("Usage:"), "[OPTIONS]": _("[OPTIONS]"), "COMMAND [ARGS]": _("COMMAND [ARGS]")}
        for english, own in words.items():
            usage = usage.replace(english, own, 1)
        return usage

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.help = _("Show this message and exit.")
        return option

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from typer import rich_utils

        rich_utils.ARGUMENTS_PANEL_TITLE, rich_utils.OPTIONS_PANEL_TITLE = _("Arguments"), _("Options")
        rich_utils.COMMANDS_PANEL_TITLE = _("Commands")
        rich_utils.DEFAULT_STRING, rich_utils.REQUIRED_LONG_STRING = _("[default: {}]"), _("[required]")
        commands = getattr(self, "commands", {}).values()
        for one in (self, *commands, *self.get_params(ctx)):  # type: ignore[attr-defined]
            one.help = _translated(one.help)
        super().format_help(ctx, formatter)  # type: ignore[misc]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)  # type: ignore[misc]
        except _UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                raise
            _refuse(error, ctx.command_path)


class Command(_InWords, TyperCommand):
    """One command of the course's."""


class CommandWithLists(Command):
    """A command whose options of several values take them one after another: `--models a b`, not `--models a`, twice.

    A word that is a folder ends the list.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        lists = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        spread, current = list[str](), ""
        for word in args:
            if word.startswith("-") or Path(word).is_dir():
                current = word if word in lists else ""
                spread.append(word)
            elif current and spread[-1] != current:
                spread += [current, word]  # the second value and those behind it
            else:
                spread.append(word)
        return super().parse_args(ctx, spread)


class Commands(_InWords, TyperGroup):
    """All of them. A user's mistake is its sentence and exit code 2, and Ctrl-C is one line and exit code 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EdgelabError as error:
            print(error, file=sys.stderr)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as interrupt:
            print(_("Stopped."), file=sys.stderr)
            raise typer.Exit(130) from interrupt

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands and not args[0].startswith("-"):
            known = ", ".join(self.list_commands(ctx))
            text = _("There is no command %(name)s. There are: %(known)s.")
            raise EdgelabError(text % {"name": args[0], "known": known})
        return super().resolve_command(ctx, args)


def _translated(text: str | None) -> str | None:
    """Return a text of `cli.py`: the catalogue has its docstrings of commands and all its `help=`."""
    return translator(language())(text) if text else text


def _refuse(error: Any, command: str) -> NoReturn:
    """Say in a sentence what does not fit, and end with exit code 2."""
    names = {"name": _name(error)}
    text = {
        "MissingParameter": _("%(name)s is missing.") % names,
        "NoSuchOption": _("There is no option %(name)s.") % names,
        "BadParameter": _("This value does not fit %(name)s.") % names,
    }.get(type(error).__name__, error.format_message())
    print(text, _("More: %(command)s") % {"command": f"{command} --help"}, file=sys.stderr)
    raise typer.Exit(2) from error


def _name(error: Any) -> str:
    """Return the option or argument that an error is about, as a user writes it."""
    parameter = getattr(error, "param", None)
    if parameter is None:
        return getattr(error, "option_name", "")
    options = [option for option in parameter.opts if option.startswith("-")]
    return options[0] if options else parameter.metavar or parameter.name.upper()
