"""What training keeps: activations for backward, gradients, and the optimizer's state."""

from rich.console import Group

from vramscope.views.terminal.page import Page, add_figures, ruled_table


def kept(page: Page) -> Group | None:
    """Activations kept for backward against those that come and go; None for a pass that keeps none."""
    activations = page.main.activations
    if not activations.retained_bytes:
        return None
    table = ruled_table(page, "when backward begins")
    add_figures(table, page.header(page.main_name))
    table.add_row("held by autograd", page.size(activations.held_by_autograd_bytes))
    table.add_row("held by a Python variable", page.size(activations.held_by_python_bytes))
    table.add_section()
    table.add_row("kept for backward", page.size(activations.retained_bytes), style="bold")
    table.add_section()
    table.add_row("transient, at most", page.size(activations.transient_peak_bytes))
    if activations.recomputed_peak_bytes:
        table.add_row("recomputed, at most", page.size(activations.recomputed_peak_bytes))
    return page.section("Activations", table)


def optimizer_state(page: Page) -> Group | None:
    """What the optimizer holds by the name of the state; None without any."""
    states = page.main.optimizer_state
    if not states:
        return None
    table = ruled_table(page, "after the last step")
    add_figures(table, page.header(page.main_name))
    for name, size in sorted(states.items(), key=lambda item: -item[1]):
        table.add_row(page.name(name), page.size(size))
    table.add_section()
    table.add_row("total", page.size(sum(states.values())), style="bold")
    return page.section("Optimizer state", table)
