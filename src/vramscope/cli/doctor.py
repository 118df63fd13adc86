"""`vramscope doctor`: what this machine can measure, and why not the rest."""

import click

from vramscope.cli.options import common_options
from vramscope.cli.output import prepare_outputs, write_text
from vramscope.collector import loading


@click.command("doctor")
@common_options(None)
def doctor_command(json_path: str | None, quiet: bool, debug: bool) -> None:
    """Show torch, GPUs, driver and allocator, and what each recorder can give on this machine."""
    prepare_outputs(None, json_path)
    from vramscope.ledger.capabilities import capabilities
    from vramscope.recorders.machine import machine_facts

    with loading():  # torch loads in there, so that --help need not
        machine = machine_facts()
    found = capabilities(machine)
    if json_path is not None:
        from vramscope.views.doctor import doctor_document
        from vramscope.views.json import to_text

        write_text(json_path, to_text(doctor_document(machine, found)))
    if not quiet and json_path != "-":
        from vramscope.views.console import result_console
        from vramscope.views.doctor import print_doctor

        print_doctor(machine, found, result_console())
